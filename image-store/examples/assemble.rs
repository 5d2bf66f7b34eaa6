//! Loads an image archive into a store and prints the seconds that took, for `scripts/bench`:
//! `assemble ARCHIVE|- STORE`.

use std::path::Path;
use std::time::Instant;

use image_store::{NoProgress, Source, Store};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [archive, folder] = &arguments[..] else {
        eprintln!("usage: assemble ARCHIVE|- STORE");
        std::process::exit(2);
    };
    let start = Instant::now();
    if let Err(error) = assemble(archive, Path::new(folder)) {
        eprint!("assemble: {error}");
        let mut source = error.source();
        while let Some(error) = source {
            eprint!(": {error}");
            source = error.source();
        }
        eprintln!();
        std::process::exit(1);
    }
    println!("{:.3}", start.elapsed().as_secs_f64());
}

fn assemble(archive: &str, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(folder)?;
    let mut stdin = std::io::stdin().lock();
    let source =
        if archive == "-" { Source::Stream(&mut stdin) } else { Source::Path(Path::new(archive)) };
    for image in store.load(source, &NoProgress)? {
        let names: Vec<String> = image.names.iter().map(|name| name.familiar()).collect();
        eprintln!("{} {}", image.id, names.join(" "));
    }
    Ok(())
}
