use prost_reflect::{Cardinality, DescriptorPool, MessageDescriptor};

use super::*;
use crate::format::protobuf::oracle::protos::editions;
use crate::schema::{Descriptors, TypeRules, schema_by};

fn message(name: &str) -> MessageDescriptor {
    Descriptors::from_set(&editions(&[]), "x").unwrap().message(&format!("rondel.editions.{name}")).unwrap()
}

fn child(message: &MessageDescriptor, name: &str) -> MessageDescriptor {
    message.child_messages().find(|child| child.name() == name).unwrap()
}

/// A field in words.
fn said(message: &MessageDescriptor, name: &str) -> String {
    let field = message.get_field_by_name(name).unwrap();
    let mut words = vec![match field.cardinality() {
        Cardinality::Optional => "optional",
        Cardinality::Required => "required",
        Cardinality::Repeated => "repeated",
    }];
    let more = [(field.supports_presence(), "present"), (field.is_packed(), "packed"), (field.is_group(), "group")];
    words.extend(more.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word));
    words.join(" ")
}

#[test]
fn features_are_resolved_for_each_field() {
    let mixed = message("Mixed");
    for (field, words) in [
        ("plain", "optional present"),
        ("implicit", "optional"),
        ("needed", "required present"),
        ("packed", "repeated packed"),
        ("expanded", "repeated"),
        ("part", "optional present group"),
        ("parts", "repeated group"),
        ("whole", "optional present"),
        ("five", "optional present"),
        ("number", "optional present"),
        ("labels", "repeated"),
        ("text", "optional"),
        ("colors", "repeated packed"),
    ] {
        assert_eq!(said(&mixed, field), words, "{field}");
    }
    // What a file says holds for all of it, but for maps.
    let grouped = message("Grouped");
    for (field, words) in [
        ("id", "required present"),
        ("inner", "optional present group"),
        ("inners", "repeated group"),
        ("numbers", "repeated"),
        ("packed", "repeated packed"),
        ("by_name", "repeated"),
        ("again", "optional present"),
    ] {
        assert_eq!(said(&grouped, field), words, "{field}");
    }
    let entry = child(&grouped, "ByNameEntry");
    assert_eq!(said(&entry, "value"), "optional present");
    assert_eq!(said(&child(&grouped, "Inner"), "deeper"), "optional present group");
    assert_eq!(grouped.extensions().filter(|extension| extension.is_group()).count(), 1);
}

#[test]
fn columns_follow_the_features() {
    let schema = schema_by(&message("Mixed"), &TypeRules::default()).unwrap();
    let nullable = |name: &str| schema.field_with_name(name).unwrap().is_nullable();
    assert!(nullable("plain") && nullable("part") && nullable("number") && nullable("color"));
    // Implicit, required, or with a default of its own.
    assert!(!nullable("implicit") && !nullable("needed") && !nullable("five") && !nullable("text"));
}

/// A set of the one file in which timestamps are defined.
fn kept_of_timestamps() -> Vec<u8> {
    let file = DescriptorPool::global().get_file_by_name("google/protobuf/timestamp.proto").unwrap();
    FileDescriptorSet { file: vec![file.file_descriptor_proto().clone()] }.encode_to_vec()
}

#[test]
fn a_file_says_that_it_was_of_an_edition_also_when_it_is_kept() {
    let descriptors = Descriptors::from_set(&editions(&[]), "x").unwrap();
    let kept = DescriptorPool::decode(descriptors.pool().encode_to_vec().as_slice()).unwrap();
    let file = |name: &str| kept.get_file_by_name(name).unwrap().file_descriptor_proto().clone();
    assert!(is_lowered(&file("mixed.proto")) && is_lowered(&file("grouped.proto")));
    assert!(!is_lowered(&file("google/protobuf/timestamp.proto")));
    // Files of older words beside them are left as they are.
    let beside = [editions(&[]), kept_of_timestamps()].concat();
    assert_eq!(read_set(&beside).unwrap().unwrap().file.last().unwrap().syntax(), "proto3");
    let one = read_set(&editions(&[])).unwrap().unwrap().file.remove(0);
    assert_eq!(read_file(&one.encode_to_vec()).unwrap().unwrap(), one);
}

#[test]
fn what_older_words_cannot_say_is_refused() {
    let refused = |replaced: &[(&str, &str)]| Descriptors::from_set(&editions(replaced), "x").unwrap_err();
    let error = refused(&[("EDITION_2023", "EDITION_99999_TEST_ONLY")]);
    assert!(error.message().contains("mixed.proto is of an edition that is not known here"), "{error}");
    assert_eq!(error.hint(), Some("known are the editions 2023 and 2024"));
    let error = refused(&[("name: \"OFF\" number: 0", "name: \"OFF\" number: 3")]);
    assert!(error.message().contains("implicit presence") && error.message().contains("the enum State"), "{error}");
}

#[test]
fn texts_of_editions_are_known_by_their_first_statement() {
    for text in ["edition = \"2023\";", "\n// a\n /* b\n c */ edition=\"2023\";"] {
        assert!(is_source(text), "{text}");
    }
    for text in ["syntax = \"proto3\";\nenum E { A = 0;\nedition = 1; }", "// edition = \"2023\";", "/* edition =", ""]
    {
        assert!(!is_source(text), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.proto");
    std::fs::write(&path, "edition = \"2023\"; message A {}").unwrap();
    let error = Descriptors::load(&path.display().to_string(), &[]).unwrap_err();
    assert!(error.message().contains("new.proto is a file of an edition"), "{error}");
    assert!(error.hint().unwrap().contains("--descriptor_set_out"));
}
