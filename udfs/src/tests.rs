use super::*;

#[test]
fn the_manual_is_these_declarations() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/functions.md");
    if std::fs::read_to_string(page).unwrap_or_default() != manual() {
        std::fs::write(page, manual()).unwrap();
        panic!("docs/functions.md was out of date and is written anew: commit it");
    }
}

#[test]
fn each_name_is_declared_once() {
    let mut names: Vec<String> =
        functions().iter().flat_map(|one| one.aliases().iter().cloned().chain([one.name().to_owned()])).collect();
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
