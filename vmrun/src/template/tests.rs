use proptest::prelude::*;
use serde_json::json;

use super::*;

fn render_as(template: &str, of: Type) -> Result<String, TemplateError> {
    let value = json!({
        "Id": "sha256:ab", "Size": 12_345_678_901_u64, "RepoTags": ["a:1", "b:2"], "Part": 0.5,
        "Volumes": null, "State": { "Running": true, "ExitCode": 0 },
        "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } },
        "Config": { "Env": ["A=1", "B=2"], "Labels": { "x.y": "z", "a": "b" }, "Cmd": null },
    });
    Format::parse(template)?.render(&Subject::of(&value, of))
}

fn render(template: &str) -> Result<String, TemplateError> {
    render_as(template, Type::Named("*formatter.imageContext"))
}

#[test]
fn fields_functions_and_control_read_as_in_go() {
    for (template, expected) in [
        ("{{.Id}} {{ .Size }} {{.Part}}", "sha256:ab 12345678901 0.5"),
        ("{{json .Config}}", r#"{"Env":["A=1","B=2"],"Labels":{"x.y":"z","a":"b"},"Cmd":null}"#),
        ("{{json .Config.Labels}}", r#"{"a":"b","x.y":"z"}"#),
        ("{{json .Config.Cmd}}{{json .Id}}", r#"null"sha256:ab""#),
        (
            "{{.Config.Cmd}} {{.Volumes}} {{.Config.Env}} {{.Config.Labels}}",
            "[] map[] [A=1 B=2] map[a:b x.y:z]",
        ),
        ("[{{.Config.StopSignal}}{{.Variant}}] {{json .Config.StopSignal}}", "[] \"\""),
        ("{{.Config.ArgsEscaped}} {{if .Variant}}variant{{end}}", "false "),
        ("{{.State}} {{.State.Health}} {{.Config.StopTimeout}}", "{true 0} <nil> <nil>"),
        ("{{.State.Running}}{{if .State.Running}}up{{else}}down{{end}}", "trueup"),
        ("{{if .State.ExitCode}}failed{{else if .Id}}id{{else}}no{{end}}", "id"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{end}}", ""),
        ("{{range .RepoTags}}<{{.}}>{{end}}", "<a:1><b:2>"),
        ("{{range $i, $tag := .RepoTags}}{{$i}}={{$tag}};{{end}}", "0=a:1;1=b:2;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "a=b x.y=z "),
        ("{{range .Volumes}}{{.}}{{else}}none{{end}}", "none"),
        ("{{range .RepoTags}}{{if eq . \"b:2\"}}{{break}}{{end}}{{.}}{{end}}", "a:1"),
        ("{{range .RepoTags}}{{if eq . \"a:1\"}}{{continue}}{{end}}{{.}}{{end}}", "b:2"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        (r#"{{index .Config.Labels "x.y"}}{{index .Config.Labels "no"}}"#, "z"),
        ("{{index .RepoTags 1}} {{len .RepoTags}} {{slice .Id 0 3}}", "b:2 2 sha"),
        (r#"{{join .RepoTags ", "}}"#, "a:1, b:2"),
        (r#"{{upper .Id}} {{.Id | lower}} {{title "one two"}}"#, "SHA256:AB sha256:ab One Two"),
        (r#"{{index (split .Id ":") 1}} {{(index (split .Id ":") 0)}}"#, "ab sha256"),
        (r#"{{truncate .Id 3}}{{pad "x" 1 2}}|{{pad "" 1 2}}|"#, "sha x  ||"),
        (
            r#"{{printf "%s-%d %q %v|%5d|%-4s|%05.1f|%x" .Id .State.ExitCode "a\"b" true 42 "ab" .Part 255}}"#,
            "sha256:ab-0 \"a\\\"b\" true|   42|ab  |000.5|ff",
        ),
        (r#"{{printf "%d %s" "a"}}"#, "%!d(string=a) %!s(MISSING)"),
        (r#"{{with .Config}}{{.Env}}{{$.Id}}{{end}}{{eq .Id "x"}}"#, "[A=1 B=2]sha256:abfalse"),
        ("{{with $x := .Id}}{{$x}}{{end}}{{$y := 1}}{{$y = 2}}{{$y}}", "sha256:ab2"),
        ("{{and .Id .Volumes}} {{or .Volumes .Id}} {{not .Id}}", "map[] sha256:ab false"),
        ("{{if and .State.Running (gt .Size 5)}}big{{end}}", "big"),
        ("{{lt 1 2}} {{ge \"a\" \"b\"}} {{ne 1 1.0}} {{eq 3 1 2 3}}", "true false false true"),
        (
            "{{print 1 2 \"a\"}} {{html \"<a>\"}} {{urlquery \"a b/\"}} {{'a'}}",
            "1 2a &lt;a&gt; a+b%2F 97",
        ),
        ("{{.Config.Labels.absent}}", "<no value>"),
        ("{{.LogConfig.Config}} {{index .LogConfig.Config \"max-size\"}}", "map[max-size:1m] 1m"),
        ("a {{- /* b */ -}} c", "ac"),
        (
            r#"{{define "a"}}<{{.}}>{{end}}{{template "a" .Id}}{{template `a` 1 | print}}"#,
            "<sha256:ab><1>",
        ),
        (r#"{{template "a"}}{{define "a"}}{{.}}{{.X}}{{end}}"#, "<no value><no value>"),
        (
            r#"{{block "b" .State}}{{.Running}}{{$.ExitCode}}{{end}}{{template "b" .State}}"#,
            "true0true0",
        ),
        (
            r#"{{range .RepoTags}}{{block "b" .}}{{.}} {{end}}{{end}}{{define "b"}}
            {{end}}"#,
            "a:1 b:2 ",
        ),
        (r#"{{define "a"}} {{end}}{{define "a"}}2{{end}}{{template "a"}}"#, "2"),
        (r#"{{define ""}}x{{end}} "#, "x"),
        (
            r#"{{define "a"}}{{if .}}{{template "a" false}}y{{else}}n{{end}}{{end}}{{template "a" true}}"#,
            "ny",
        ),
        (r#"{{$x := 1}}{{define "a"}}{{$x := 2}}{{$x}}{{end}}{{template "a"}}{{$x}}"#, "21"),
        (r#"{{template "a" $y := 1}}{{$y}}{{define "a"}}{{.}}{{end}}"#, "11"),
        (
            r#"{{define "a"}}{{template "b" .Config}}{{end}}{{define "b"}}{{json .Env}}{{end}}{{template "a" .}}"#,
            r#"["A=1","B=2"]"#,
        ),
    ] {
        assert_eq!(render(template).unwrap(), expected, "{template}");
    }
}

#[test]
fn what_cannot_be_is_told_in_go_s_words() {
    let of = "*formatter.imageContext";
    for (template, why) in [
        ("{{.Absent}}", format!("1:2: executing \"\" at <.Absent>: can't evaluate field Absent in type {of}")),
        ("a\n{{upper .Size}}", "2:2: executing \"\" at <upper .Size>: error calling upper: wrong type for value; expected string; got int".into()),
        ("{{.Id.x}}", "1:5: executing \"\" at <.Id.x>: can't evaluate field x in type string".into()),
        ("{{.Id 1}}", "1:2: executing \"\" at <.Id>: Id has arguments but cannot be invoked as function".into()),
        ("{{range .Id}}{{end}}", "1:8: executing \"\" at <.Id>: range can't iterate over sha256:ab".into()),
        ("{{nil}}", "1:2: executing \"\" at <nil>: nil is not a command".into()),
        ("{{index .RepoTags 9}}", "1:2: executing \"\" at <index .RepoTags 9>: error calling index: index out of range: 9".into()),
        ("{{template \"b\" $x := .Id | len}}", "1:11: executing \"\" at <{{template \"b\" $x := .Id | len}}>: template \"b\" not defined".into()),
        ("{{define \"a\"}}\n{{.Absent}}{{end}}{{template \"a\" .}}", format!("2:2: executing \"a\" at <.Absent>: can't evaluate field Absent in type {of}")),
        ("{{template \"a\" nil}}{{define \"a\"}}{{end}}", "1:15: executing \"\" at <nil>: nil is not a command".into()),
        ("{{define \"a\"}}{{end}}{{define \"b\"}}{{template \"a\" .X}}{{end}}{{template \"b\" .State}}", "1:50: executing \"b\" at <.X>: can't evaluate field X in type interface {}".into()),
        ("{{lt .RepoTags 1}}", "1:2: executing \"\" at <lt .RepoTags 1>: error calling lt: incompatible types for comparison".into()),
    ] {
        assert_eq!(render(template).unwrap_err().to_string(), format!("template: :{why}"), "{template}");
    }
}

#[test]
fn an_answer_is_a_map_to_its_template() {
    for (template, at, key) in [
        ("{{.Nosuch}}", "1:2: executing \"\" at <.Nosuch>", "Nosuch"),
        ("{{.State.Nosuch}}", "1:8: executing \"\" at <.State.Nosuch>", "Nosuch"),
        ("{{.State.Health.Status}}", "1:8: executing \"\" at <.State.Health.Status>", "Health"),
    ] {
        let error = render_as(template, Type::Answer).unwrap_err().to_string();
        assert_eq!(error, format!("template: :{at}: map has no entry for key \"{key}\""));
    }
}

#[test]
fn labels_are_asked_for_by_name() {
    let value = json!({ "Names": "one" });
    let label = |name: &str| format!("<{name}>");
    let subject = Subject {
        label: Some(&label),
        ..Subject::of(&value, Type::Named("*formatter.ContainerContext"))
    };
    let format = Format::parse("{{.Names}} {{.Label \"a\"}} {{upper .Names}}").unwrap();
    assert_eq!(format.render(&subject).unwrap(), "one <a> ONE");
    let headers = Subject { headers: true, ..subject };
    assert_eq!(format.render(&headers).unwrap(), "one <a> one");
}

/// As deep as the stack is sure to hold, whatever a template puts between two calls of itself.
#[test]
fn templates_within_templates_end() {
    let nested =
        "{{if 1}}".repeat(90) + "{{template \"a\" (print (print 1))}}" + &"{{end}}".repeat(90);
    for body in
        ["{{template \"a\"}}", "{{range \"\" | split \"a\"}}{{template \"a\"}}{{end}}", &nested]
    {
        let template = format!("{{{{define \"a\"}}}}{body}{{{{end}}}}{{{{template \"a\"}}}}");
        let error = render(&template).unwrap_err().to_string();
        assert!(error.contains("executing \"a\" at <{{template \"a\""), "{error}");
        assert!(error.ends_with(": exceeded maximum template depth (250)"), "{error}");
    }
    let error = render("{{template \"\"}}x").unwrap_err().to_string();
    assert!(error.contains("1:11: executing \"\" at <{{template \"\"}}>: exceeded"), "{error}");
}

proptest! {
    /// A user may type anything.
    #[test]
    fn no_text_is_a_panic(parts in proptest::collection::vec(prop_oneof![
        prop::sample::select(vec![
            "{{", "}}", "{{- ", " -}}", "if ", "range ", "end", "else", "$x", ":=", "=", ".", ".Id",
            ".Config.Labels", "|", "(", ")", "printf ", "\"%5.3x\" ", "index ", "slice ", "-1", "9",
            "/*", "*/", ",", "'a'", "`", "\\", "json ", "with ", "\n", " ", "ä", "len ", "eq ",
            "define ", "template ", "block ", "\"a\"", "{{define \"a\"}}", "{{template \"a\" .}}", "{{end}}",
        ]).prop_map(str::to_owned),
        ".{0,3}".prop_map(String::from),
    ], 0..24)) {
        let _ = render(&parts.concat());
    }
}
