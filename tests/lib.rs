//! Checks of the repository itself; the end-to-end cases are in `cases/`.

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
    }

    /// What a document has in backquotes.
    fn quoted(document: &str) -> impl Iterator<Item = &str> {
        document.split('`').skip(1).step_by(2)
    }

    /// The sources below a folder, one after the other.
    fn sources(folder: &Path) -> String {
        let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("entry"));
        entries
            .map(|entry| match entry.path() {
                path if path.is_dir() => sources(&path),
                path if path.extension().is_some_and(|name| name == "rs") => {
                    fs::read_to_string(&path).expect("a source")
                }
                _ => String::new(),
            })
            .collect()
    }

    /// The paths that a document names in backquotes exist.
    #[test]
    fn paths_named_in_the_documents_exist() {
        let root = repository();
        for document in ["ARCHITECTURE.md", "README.md", "SPECIFICATION.md", "docs/threat-model.md"]
        {
            let text = fs::read_to_string(root.join(document)).expect(document);
            for name in quoted(&text) {
                let is_path = name.contains('/')
                    && !name.starts_with(['/', '$', '~', '.', '<'])
                    && !name.contains([' ', '*', '<', '{'])
                    && name.split('/').next().is_some_and(|folder| root.join(folder).is_dir());
                assert!(!is_path || root.join(name).exists(), "{document} names {name}");
            }
        }
    }

    /// The tests that hold a promise, `case MODULE::TEST`, `faults MODULE::TEST` or
    /// `CRATE MODULE::TEST`, exist.
    #[test]
    fn tests_named_in_the_specification_exist() {
        let root = repository();
        let text = fs::read_to_string(root.join("SPECIFICATION.md")).expect("the specification");
        let mut named = 0;
        for (crate_name, test) in quoted(&text).filter_map(|name| name.split_once(' ')) {
            let Some((module, function)) = test.split_once("::") else { continue };
            let folder = match crate_name {
                "case" => root.join("tests/cases"),
                "faults" | "fuzz" => root.join("tests").join(crate_name),
                name => root.join(name).join("src"),
            };
            let text = match crate_name {
                "case" => {
                    fs::read_to_string(folder.join(module).with_extension("rs")).unwrap_or_default()
                }
                _ => sources(&folder),
            };
            assert!(text.contains(&format!("fn {function}(")), "there is no {crate_name} {test}");
            named += 1;
        }
        assert!(named > 0, "the specification names no test");
    }
}
