//! The manual's tables of options are those that the code declares. After a change of a table,
//! `RONDEL_UPDATE_DOCS=1 cargo test --test integration options` writes them anew.

use std::collections::BTreeMap;
use std::fs;

use rondel_engine::checkpoint::JOB_OPTIONS;
use rondel_engine::connector::options::OptionTable;
use rondel_engine::connector::registry::CONNECTORS;
use rondel_tests::Result;
use rondel_tests::documents::pages;

#[test]
fn the_manual_has_every_option() -> Result<()> {
    let mut tables: BTreeMap<&str, &OptionTable> = BTreeMap::new();
    for connector in CONNECTORS {
        let declared = connector.stream.iter().map(|(_, tables)| tables).chain(connector.sink.iter().map(|(_, t)| t));
        for table in declared.copied().flatten() {
            if !table.options.is_empty() {
                tables.insert(table.title, table);
            }
        }
    }
    tables.insert(JOB_OPTIONS.title, &JOB_OPTIONS);
    let update = std::env::var_os("RONDEL_UPDATE_DOCS").is_some();
    let mut shown = Vec::new();
    for page in pages()? {
        let text = fs::read_to_string(&page)?;
        let mut written = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("<!-- options: ") {
            let (title, after) = after.split_once(" -->\n").ok_or("a marker without its end")?;
            let (_, after) = after.split_once("<!-- end -->").ok_or("a table without its end")?;
            let table = tables.get(title).ok_or_else(|| format!("{}: nothing declares {title}", page.display()))?;
            // The page has headings of its own.
            let markdown = table.markdown();
            let (_, rows) = markdown.split_once("\n\n").ok_or("a table without a heading")?;
            written.push_str(&format!("{before}<!-- options: {title} -->\n{rows}<!-- end -->"));
            shown.push(title.to_owned());
            rest = after;
        }
        written.push_str(rest);
        if update && written != text {
            fs::write(&page, &written)?;
        } else {
            assert!(written == text, "{} shows old options: RONDEL_UPDATE_DOCS=1 writes it anew", page.display());
        }
    }
    for title in tables.keys() {
        assert!(
            shown.contains(&(*title).to_owned()),
            "no page shows the options of {title}: add <!-- options: {title} -->"
        );
    }
    Ok(())
}

#[test]
fn the_manual_has_every_type() -> Result<()> {
    let page = rondel_tests::root().join("docs/types.md");
    let text = fs::read_to_string(&page)?;
    let (before, after) = text.split_once("<!-- types -->\n").ok_or("docs/types.md has no marker")?;
    let (_, after) = after.split_once("<!-- end -->").ok_or("docs/types.md has no end of the table")?;
    let table = rondel_engine::schema::reference::markdown()?;
    let written = format!("{before}<!-- types -->\n{table}<!-- end -->{after}");
    if std::env::var_os("RONDEL_UPDATE_DOCS").is_some() && written != text {
        fs::write(&page, &written)?;
    } else {
        assert!(written == text, "docs/types.md shows old types: RONDEL_UPDATE_DOCS=1 writes it anew");
    }
    Ok(())
}
