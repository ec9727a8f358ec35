//! Messages that have everything in them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::schema::Descriptors;

const PROTO3: &str = r#"
syntax = "proto3";
package p3;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";

enum Color { RED = 0; GREEN = 1; A_COLOR_WITH_A_LONG_NAME = 2; NEGATIVE = -7; FAR = 100000; }

message Scalars {
  int32 a = 1; sint32 b = 2; sfixed32 c = 3; uint32 d = 4; fixed32 e = 5;
  int64 f = 6; sint64 g = 7; sfixed64 h = 8; uint64 i = 9; fixed64 j = 10;
  bool k = 11; float l = 12; double m = 13; string n = 14; bytes o = 15; Color p = 16;
  // Tags of two and more bytes.
  int32 q = 2000; string r = 3000; int64 s = 500000;
}
message Optionals {
  optional int32 a = 1; optional uint64 b = 2; optional bool c = 3; optional double d = 4; optional string e = 5;
  optional bytes f = 6; optional Color g = 7; optional Scalars h = 8;
}
message Lists {
  repeated int32 a = 1; repeated sint64 b = 2; repeated fixed32 c = 3; repeated uint64 d = 4; repeated bool e = 5;
  repeated double f = 6; repeated string g = 7; repeated bytes h = 8; repeated Color i = 9; repeated Leg j = 10;
  repeated google.protobuf.Timestamp k = 11; repeated google.protobuf.StringValue l = 12; repeated float m = 13;
}
message Unpacked {
  repeated int32 a = 1 [packed = false]; repeated sint64 b = 2 [packed = false]; repeated fixed32 c = 3 [packed = false];
  repeated uint64 d = 4 [packed = false]; repeated bool e = 5 [packed = false]; repeated double f = 6 [packed = false];
  repeated Color i = 9 [packed = false]; repeated float m = 13 [packed = false];
}
message Leg { double lat = 1; double lon = 2; string name = 3; repeated string notes = 4; optional Scalars more = 5; }
message Holder { Leg h = 1; }
message Maps {
  map<string, int32> a = 1; map<int64, string> b = 2; map<bool, Leg> c = 3; map<uint64, bytes> d = 4;
  map<sint32, Color> e = 5; map<string, google.protobuf.Duration> f = 6; map<fixed32, double> g = 7;
  map<string, google.protobuf.Int32Value> h = 8;
}
message Times {
  google.protobuf.Timestamp a = 1; google.protobuf.Duration b = 2; google.protobuf.Int32Value c = 3;
  google.protobuf.StringValue d = 4; google.protobuf.BoolValue e = 5; google.protobuf.UInt64Value f = 6;
  google.protobuf.BytesValue g = 7; google.protobuf.DoubleValue h = 8;
}
message Choice {
  int32 before = 1;
  oneof kind {
    int32 number = 2; string text = 3; Leg leg = 4; google.protobuf.Timestamp at = 5; Color color = 6; bytes raw = 7;
    google.protobuf.StringValue wrapped = 8; Choice again = 9; bool flag = 10;
  }
  oneof other { string x = 11; string y = 12; }
  repeated Inner inner = 13;
  message Inner { oneof kind { int32 number = 1; Leg leg = 2; } }
}
message Node {
  int32 value = 1; Node next = 2; repeated Node children = 3; map<string, Node> named = 4; Other other = 5;
  message Other { Node node = 1; string name = 2; google.protobuf.Value json = 3; }
}
message Everything {
  Scalars scalars = 1; Optionals optionals = 2; Lists lists = 3; Maps maps = 4; Times times = 5; Choice choice = 6;
  Node node = 7; repeated Everything2 nested = 8;
}
message Everything2 { repeated Lists lists = 1; Maps maps = 2; repeated Choice choices = 3; Empty empty = 4; }
message Empty {}
"#;

const PROTO2: &str = r#"
syntax = "proto2";
package p2;
enum Level { LOW = 1; HIGH = 5; }
message Old {
  required int32 id = 1;
  optional int32 plain = 2;
  optional int32 five = 3 [default = 5];
  optional string word = 4 [default = "a default that is long enough"];
  optional string short = 5 [default = "short"];
  optional bool yes = 6 [default = true];
  optional bytes data = 7 [default = "a\001b"];
  optional Level level = 8 [default = HIGH];
  optional Level bare = 9;
  optional double ratio = 10 [default = -0.5];
  optional uint64 big = 11 [default = 18446744073709551615];
  optional group Part = 12 { optional int32 x = 1; repeated group Piece = 2 { optional string s = 1; } }
  repeated group Item = 13 { required string name = 1; optional Old old = 2; }
  repeated int32 packed = 14 [packed = true];
  repeated int32 unpacked = 15;
  repeated Level levels = 16;
  optional group Again = 17 { optional Old old = 1; optional group Again2 = 2 { optional int32 z = 1; } }
  oneof one { int32 left = 18; string right = 19; }
  extensions 100 to 200;
}
message Outer { optional Old old = 1; repeated Old olds = 2; required Inner must = 3; message Inner { required int64 n = 1; } }
"#;

/// Where the messages are that are files.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn sources() -> DescriptorPool {
    let own = tempfile::tempdir().unwrap();
    std::fs::write(own.path().join("p3.proto"), PROTO3).unwrap();
    std::fs::write(own.path().join("p2.proto"), PROTO2).unwrap();
    let mut compiler = protox::Compiler::new([own.path(), &folder("tests/protobuf"), &folder("sql/tour")]).unwrap();
    let files = ["p3.proto", "p2.proto", "all_types3.proto", "all_types2.proto", "realistic.proto", "booking.proto"];
    compiler.include_imports(true).open_files(files).unwrap();
    compiler.descriptor_pool()
}

/// A set of files of editions, as bytes; each pair replaces the first by the second in the text.
pub(crate) fn editions(replaced: &[(&str, &str)]) -> Vec<u8> {
    let mut compiler = protox::Compiler::new([folder("tests/protobuf")]).unwrap();
    compiler.open_file("descriptor.proto").unwrap();
    let set = compiler.descriptor_pool().get_message_by_name("rondel.descriptor.FileDescriptorSet").unwrap();
    let mut text = std::fs::read_to_string(folder("tests/protobuf/editions.txtpb")).unwrap();
    for (old, new) in replaced {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    DynamicMessage::parse_text_format(set, &text).unwrap().encode_to_vec()
}

/// The message of that name: `p3.…`, `p2.…`, and those of files.
pub(crate) fn message(name: &str) -> MessageDescriptor {
    static POOLS: OnceLock<[DescriptorPool; 2]> = OnceLock::new();
    let pools =
        POOLS.get_or_init(|| [sources(), Descriptors::from_set(&editions(&[]), "editions").unwrap().pool().clone()]);
    pools.iter().find_map(|pool| pool.get_message_by_name(name)).unwrap()
}

/// Every message that a test runs through.
pub(crate) const ALL: [&str; 23] = [
    "p3.Scalars",
    "p3.Optionals",
    "p3.Lists",
    "p3.Unpacked",
    "p3.Leg",
    "p3.Maps",
    "p3.Times",
    "p3.Choice",
    "p3.Node",
    "p3.Everything",
    "p3.Everything2",
    "p2.Old",
    "p2.Outer",
    "rondel.conformance.v3.AllTypes",
    "rondel.conformance.v2.AllTypes",
    "rondel.conformance.v2.Required",
    "rondel.editions.Mixed",
    "rondel.editions.Grouped",
    "rondel.tour.Booking",
    "rondel.realistic.Payment",
    "rondel.realistic.Order",
    "rondel.realistic.Telemetry",
    "rondel.realistic.Span",
];
