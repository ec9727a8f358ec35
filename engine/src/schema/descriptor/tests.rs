use std::fs;

use prost::Message;
use tempfile::TempDir;

use super::*;

const ACME: &str = r#"
syntax = "proto3";
package acme;
import "google/protobuf/timestamp.proto";
import "parts/leg.proto";
message Booking { google.protobuf.Timestamp at = 1; Leg leg = 2; map<string, int32> tags = 3; }
enum Status { UNKNOWN = 0; }
"#;
const LEG: &str = r#"syntax = "proto3"; package acme; message Leg { double lat = 1; } message BookingLeg {}"#;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("parts")).unwrap();
    fs::write(folder.path().join("acme.proto"), ACME).unwrap();
    fs::write(folder.path().join("parts/leg.proto"), LEG).unwrap();
    folder
}

fn set(folder: &TempDir, keep: impl Fn(&str) -> bool) -> String {
    let mut compiler = protox::Compiler::new([folder.path()]).unwrap();
    compiler.include_imports(true).open_file("acme.proto").unwrap();
    let mut set = compiler.file_descriptor_set();
    set.file.retain(|file| keep(file.name()));
    let path = folder.path().join("acme.desc");
    fs::write(&path, set.encode_to_vec()).unwrap();
    path.display().to_string()
}

#[test]
fn sources_are_compiled() {
    let folder = folder();
    let path = folder.path().join("acme.proto");
    for option in [format!("file:{}", path.display()), path.display().to_string()] {
        let descriptors = Descriptors::load(&option, &[]).unwrap();
        assert_eq!(descriptors.message("acme.Booking").unwrap().fields().len(), 3);
        assert_eq!(descriptors.message(".acme.Leg").unwrap().full_name(), "acme.Leg");
        assert_eq!(descriptors.message_names(), ["acme.Booking", "acme.BookingLeg", "acme.Leg"]);
    }
}

#[test]
fn several_sources_and_include_paths() {
    let folder = folder();
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("more.proto");
    fs::write(&path, r#"syntax = "proto3"; import "parts/leg.proto"; message More { acme.Leg leg = 1; }"#).unwrap();
    let option = format!("file:{}, {}", path.display(), folder.path().join("parts/leg.proto").display());
    let descriptors = Descriptors::load(&option, &[folder.path().to_owned()]).unwrap();
    assert!(descriptors.message("More").is_ok());

    let error = Descriptors::load(&path.display().to_string(), &[]).unwrap_err();
    assert!(error.message().contains("parts/leg.proto"), "{error}");
    assert!(error.hint().unwrap().contains(&other.path().display().to_string()));
}

#[test]
fn all_sources_of_a_folder_are_compiled() {
    let folder = folder();
    let option = format!("file:{}/", folder.path().display());
    let names = ["acme.Booking", "acme.BookingLeg", "acme.Leg"];
    assert_eq!(Descriptors::load(&option, &[]).unwrap().message_names(), names);
    // Beside files, and what is no source is left alone.
    fs::write(folder.path().join("parts/read.me"), "words").unwrap();
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("more.proto");
    fs::write(&path, r#"syntax = "proto3"; import "parts/leg.proto"; message More { acme.Leg leg = 1; }"#).unwrap();
    let both = Descriptors::load(&format!("{option}, {}", path.display()), &[]).unwrap();
    assert!(both.message("More").is_ok() && both.message("acme.Booking").is_ok());

    let empty = tempfile::tempdir().unwrap();
    let error = Descriptors::load(&empty.path().display().to_string(), &[]).unwrap_err();
    assert!(error.message().ends_with("has no .proto files"), "{error}");
}

#[test]
fn what_is_hidden_in_a_folder_is_left_out() {
    // The folder itself, which is named, may be hidden: this one is.
    let folder = folder();
    fs::create_dir(folder.path().join(".git")).unwrap();
    fs::write(folder.path().join(".git/old.proto"), "no protobuf").unwrap();
    fs::write(folder.path().join("parts/.leg.proto"), "no protobuf").unwrap();
    let descriptors = Descriptors::load(&folder.path().display().to_string(), &[]).unwrap();
    assert_eq!(descriptors.message_names(), ["acme.Booking", "acme.BookingLeg", "acme.Leg"]);
}

#[test]
fn a_folder_of_too_much_is_refused() {
    let folder = folder();
    // Two files, and the folder of one of them.
    assert_eq!(sources_below(folder.path(), 3).unwrap().len(), 2);
    let error = sources_below(folder.path(), 2).unwrap_err();
    let expected = format!(
        "the descriptor folder {} has more than 2 files and folders in it: name a folder further down, or its .proto files one by one",
        folder.path().display()
    );
    assert_eq!(error.message(), expected);
}

#[test]
fn sets_are_read_with_and_without_googles_files() {
    let folder = folder();
    let whole = set(&folder, |_| true);
    assert!(Descriptors::load(&whole, &[]).unwrap().message("acme.Booking").is_ok());
    let without = set(&folder, |name| !name.starts_with("google/"));
    assert!(Descriptors::load(&without, &[]).unwrap().message("acme.Booking").is_ok());

    let lacking = set(&folder, |name| !name.starts_with("parts/"));
    let error = Descriptors::load(&lacking, &[]).unwrap_err();
    assert!(error.message().ends_with("lacks the imported file parts/leg.proto"), "{error}");
    assert!(error.hint().unwrap().contains("--include_imports"));
}

#[test]
fn a_wrong_name_is_answered_with_the_nearest() {
    let folder = folder();
    let descriptors = Descriptors::load(&folder.path().join("acme.proto").display().to_string(), &[]).unwrap();
    let error = descriptors.message("acme.Bokking").unwrap_err();
    assert!(error.message().starts_with("acme.Bokking is no message of"), "{error}");
    assert_eq!(error.hint(), Some("did you mean acme.Booking?"));
    assert_eq!(descriptors.message("booking").unwrap_err().hint(), Some("did you mean acme.Booking?"));
    let error = descriptors.message("acme.Status").unwrap_err();
    assert!(error.message().contains("an enum, not a message"), "{error}");
    let error = descriptors.message("quite.other").unwrap_err();
    assert_eq!(error.hint(), Some("its messages are acme.Booking, acme.BookingLeg, acme.Leg"));
    // The message that protobuf makes for a map's entries is nobody's business.
    assert!(descriptors.message("acme.Booking.TagsEntry").is_err());
}

#[test]
fn files_that_are_no_descriptors() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let message = |option: &str| Descriptors::load(option, &[]).unwrap_err().message().to_owned();
    assert!(message("file:").contains("names no file"));
    assert!(message(&path("absent.desc")).ends_with("absent.desc does not exist"));
    fs::write(path("empty.desc"), "").unwrap();
    assert!(message(&path("empty.desc")).ends_with("is not a FileDescriptorSet"));
    fs::write(path("text.desc"), "hello, this is text").unwrap();
    assert!(message(&path("text.desc")).ends_with("is not a FileDescriptorSet"));
    fs::write(path("wrong.proto"), "syntax = \"proto3\";\nmessage X { intt32 a = 1; }").unwrap();
    let text = message(&path("wrong.proto"));
    assert!(text.contains("wrong.proto:2:") && text.contains("intt32"), "{text}");
    assert!(message(&format!("{},{}", path("acme.proto"), path("text.desc"))).contains("several files"));
}
