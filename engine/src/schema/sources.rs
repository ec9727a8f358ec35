//! `.proto` texts that are in memory: compiled, with their imports among each other and Google's files.

use std::collections::BTreeMap;

use prost_reflect::DescriptorPool;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

/// Texts by the names under which they are imported.
struct Texts(BTreeMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Compiles all of the texts.
pub(crate) fn compile_texts(texts: BTreeMap<String, String>) -> Result<DescriptorPool, protox::Error> {
    let names: Vec<String> = texts.keys().cloned().collect();
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(texts));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    for name in names {
        compiler.open_file(name)?;
    }
    Ok(compiler.descriptor_pool())
}
