//! Lists the sample corpus's articles, so that the binary carries them.

use std::fmt::Write;
use std::path::Path;

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the directory");
    let articles = Path::new(&root).join("demo/articles");
    println!("cargo:rerun-if-changed=demo");
    let listed = std::fs::read_dir(&articles).expect("the corpus is in the repository");
    let mut names: Vec<String> = listed
        .map(|found| {
            found
                .expect("the directory can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    let mut code = String::from("&[\n");
    for name in names {
        let path = articles.join(&name);
        writeln!(
            code,
            "    ({name:?}, include_str!({:?})),",
            path.display().to_string()
        )
        .expect("writing to a string does not fail");
    }
    code.push(']');
    let out = std::env::var("OUT_DIR").expect("cargo names the directory");
    std::fs::write(Path::new(&out).join("articles.rs"), code)
        .expect("the build directory can be written");
}
