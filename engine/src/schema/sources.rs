//! `.proto` files that are in memory: compiled, with their imports among each other and Google's files.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::editions;
use super::kept::Content;
use crate::error::{Error, Result};

/// Texts, or descriptors in base64, by the names under which they are imported.
struct Texts(BTreeMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => match file_of_base64(text) {
                Some(Ok(file)) => {
                    let file = FileDescriptorProto { name: Some(name.to_owned()), ..file };
                    Ok(File::from_file_descriptor_proto(file))
                }
                Some(Err(error)) => Err(protox::Error::new(error)),
                None if editions::is_source(text) => Err(protox::Error::new(editions::unread_source(name))),
                None => File::from_source(name, text),
            },
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// A file's descriptor, if that is what the text holds. No `.proto` text is base64: it has spaces, or a semicolon.
fn file_of_base64(text: &str) -> Option<Result<FileDescriptorProto>> {
    editions::read_file(&STANDARD.decode(text.trim()).ok()?)
}

/// Compiles all of the texts.
pub(crate) fn compile_texts(texts: BTreeMap<String, String>) -> Result<DescriptorPool, protox::Error> {
    let names: Vec<String> = texts.keys().cloned().collect();
    compile_named(texts, &names)
}

fn compile_named(texts: BTreeMap<String, String>, names: &[String]) -> Result<DescriptorPool, protox::Error> {
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

/// A schema as a registry has it, with what it imports. A text has no name of its own: it gets `name`.
pub(crate) fn compile_registered(name: &str, schema: &str, imports: BTreeMap<String, String>) -> Result<Content> {
    let own = match file_of_base64(schema).transpose()? {
        Some(file) => file.name.filter(|name| !name.is_empty()),
        None => None,
    };
    let name = own.unwrap_or_else(|| name.to_owned());
    let mut texts = imports;
    texts.insert(name.clone(), schema.to_owned());
    let pool = compile_named(texts, std::slice::from_ref(&name))
        // Its debug form leads with file, line and column; the display form has none.
        .map_err(|error| Error::invalid(format!("the schema does not compile: {error:?}")))?;
    Ok(Content::Protobuf { set: pool.encode_to_vec(), file: Some(name) })
}

/// `.proto` files from elsewhere, by their names.
pub(crate) fn compile_fetched(texts: BTreeMap<String, String>) -> Result<DescriptorPool> {
    compile_texts(texts).map_err(|error| Error::invalid(format!("the descriptor does not compile: {error:?}")))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    const MAIN: &str = r#"syntax = "proto3"; package acme; import "parts/leg.proto";
        import "google/protobuf/timestamp.proto";
        message Booking { Leg leg = 1; google.protobuf.Timestamp at = 2; }"#;
    const LEG: &str = r#"syntax = "proto3"; package acme; message Leg { double lat = 1; }"#;

    #[test]
    fn registered_schemas_are_texts_or_descriptors() {
        let texts = BTreeMap::from([("parts/leg.proto".to_owned(), LEG.to_owned())]);
        let text = compile_registered("x.proto", MAIN, texts.clone()).unwrap();
        let descriptors = text.descriptors("x").unwrap();
        assert_eq!(descriptors.message_names(), ["acme.Booking", "acme.Leg"]);
        let encoded = |name: &str| {
            let file = descriptors.pool().get_file_by_name(name).unwrap();
            STANDARD.encode(file.file_descriptor_proto().encode_to_vec())
        };
        let texts = BTreeMap::from([("parts/leg.proto".to_owned(), encoded("parts/leg.proto"))]);
        let Content::Protobuf { set, file } = compile_registered("y.proto", &encoded("x.proto"), texts).unwrap() else {
            panic!("no protobuf");
        };
        assert_eq!(file.as_deref(), Some("x.proto"));
        let again = DescriptorPool::decode(set.as_slice()).unwrap();
        assert!(again.get_message_by_name("acme.Booking").is_some());
        let error = compile_registered("x.proto", MAIN, BTreeMap::new()).unwrap_err();
        assert!(error.message().contains("parts/leg.proto"), "{error}");
    }
}
