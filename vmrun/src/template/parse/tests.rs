use super::*;

#[test]
fn what_is_no_template_is_told_in_go_s_words() {
    for (text, why) in [
        ("{{.A", "unclosed action"),
        ("a\n{{if .A}}", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{}}", "missing value for command"),
        ("{{if}}{{end}}", "missing value for if"),
        ("{{nope .}}", "function \"nope\" not defined"),
        ("{{$x}}", "undefined variable \"$x\""),
        ("{{.A | 1}}", "non executable command in pipeline stage 2"),
        ("{{1.A}}", "bad number syntax: \"1.A\""),
        ("{{\"a\".A}}", "unexpected . after term \"\\\"a\\\"\""),
        ("{{.A end}}", "unexpected <end> in operand"),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{if 1}}{{define \"a\"}}x{{end}}{{end}}", "unexpected <define> in command"),
        ("{{define a}}x{{end}}", "unexpected \"a\" in define clause"),
        ("{{define \"a\" 1}}x{{end}}", "unexpected \"1\" in define clause"),
        ("{{define \"a\"}}x", "unexpected EOF"),
        ("{{define \"a\"}}x{{else}}y{{end}}", "unexpected {{else}} in define clause"),
        ("{{define}}x{{end}}", "unexpected \"}}\" in define clause"),
        ("{{define 'a'}}x{{end}}", "unexpected \"'a'\" in define clause"),
        ("{{template}}", "unexpected \"}}\" in template clause"),
        ("{{template \"a\" | }}", "unexpected \"|\" in template clause"),
        ("{{block \"a\"}}x{{end}}", "missing value for block clause"),
        ("{{block \"a\" .}}x", "unexpected EOF"),
        ("{{block \"a\" .}}x{{else}}y{{end}}", "unexpected {{else}} in block clause"),
        ("{{\"a\" | template \"b\"}}", "unexpected <template> in command"),
        ("{{with $v := 1}}{{block \"b\" 2}}{{$v}}{{end}}{{end}}", "undefined variable \"$v\""),
        ("{{define \"a\"}}{{break}}{{end}}", "{{break}} outside {{range}}"),
        ("{{range 1}}{{block \"a\" 1}}{{break}}{{end}}{{end}}", "{{break}} outside {{range}}"),
        (
            "{{define \"a\"}}1{{end}}{{define \"a\"}}2{{end}}",
            "template: multiple definition of template \"a\"",
        ),
        ("{{define \"\"}}x{{end}}y", "template: multiple definition of template \"\""),
        ("{{\"\\q\"}}", "malformed constant: \"\\q\""),
    ] {
        let line = 1 + text.matches('\n').count();
        assert_eq!(parse(text).unwrap_err(), format!("template: :{line}: {why}"), "{text}");
    }
    assert!(parse(&"{{if .A}}".repeat(10_000)).is_err());
    assert!(parse(&"{{block \"a\" .}}".repeat(10_000)).is_err());
    assert!(parse(&format!("{{{{{}}}}}", "(".repeat(10_000))).is_err());
}

#[test]
fn chains_stand_where_their_second_link_does() {
    let parsed = parse("{{.State.Health.Log}}").unwrap();
    let [Node::Action(pipe)] = parsed[""].as_slice() else { unreachable!() };
    let word = &pipe.commands[0].0[0];
    assert_eq!((word.at, word.text.as_str()), (8, ".State.Health.Log"));
}

#[test]
fn constants_are_go_s() {
    assert_eq!(unquote(r#""a\tA\x41\u00e4\"""#), Ok("a\tAA\u{e4}\"".into()));
    assert_eq!(unquote(r"`a\t`"), Ok("a\\t".into()));
    assert_eq!(unquote("'a'"), Ok(97.into()));
    assert_eq!((number("-3"), number("1.5")), ((-3).into(), 1.5.into()));
}
