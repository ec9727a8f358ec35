use prost_reflect::DescriptorPool;

use super::*;

/// Compiles one `.proto` text.
fn pool(text: &str) -> DescriptorPool {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test.proto"), text).unwrap();
    let mut compiler = protox::Compiler::new([folder.path()]).unwrap();
    compiler.include_imports(true).open_file("test.proto").unwrap();
    compiler.descriptor_pool()
}

/// `name type [not null]` of each column.
fn columns(text: &str, message: &str) -> Vec<String> {
    let schema = arrow_schema(&pool(text).get_message_by_name(message).unwrap()).unwrap();
    let null = |field: &Field| if field.is_nullable() { "" } else { " not null" };
    schema.fields().iter().map(|field| format!("{} {}{}", field.name(), field.data_type(), null(field))).collect()
}

#[test]
fn scalars_of_proto3() {
    let text = r#"syntax = "proto3"; enum Color { RED = 0; }
        message M { uint64 u64 = 9; int32 i32 = 1; sint32 s32 = 2; sfixed32 f32 = 3; uint32 u32 = 4; fixed32 x32 = 5;
                    int64 i64 = 6; sint64 s64 = 7; sfixed64 f64 = 8; fixed64 x64 = 10; bool b = 11; float f = 12;
                    double d = 13; string s = 14; bytes y = 15; Color c = 16; optional int32 o = 17;
                    oneof either { string left = 18; int64 right = 19; } }"#;
    assert_eq!(
        columns(text, "M"),
        [
            "u64 Decimal128(20, 0) not null",
            "i32 Int32 not null",
            "s32 Int32 not null",
            "f32 Int32 not null",
            "u32 Int64 not null",
            "x32 Int64 not null",
            "i64 Int64 not null",
            "s64 Int64 not null",
            "f64 Int64 not null",
            "x64 Decimal128(20, 0) not null",
            "b Boolean not null",
            "f Float32 not null",
            "d Float64 not null",
            "s Utf8View not null",
            "y Binary not null",
            "c Utf8View not null",
            "o Int32",
            "left Utf8View",
            "right Int64",
        ]
    );
}

#[test]
fn presence_in_proto2() {
    let text = r#"syntax = "proto2";
        message M { required int32 must = 1; optional int32 may = 2; optional int32 five = 3 [default = 5];
                    repeated int32 many = 4; optional group Part = 5 { optional int32 inner = 1; } }"#;
    assert_eq!(
        columns(text, "M"),
        [
            "must Int32 not null",
            "may Int32",
            "five Int32 not null",
            "many List(Int32) not null",
            "part Struct(\"inner\": Int32)",
        ]
    );
}

#[test]
fn messages_maps_and_well_known_types() {
    let text = r#"syntax = "proto3";
        import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
        import "google/protobuf/wrappers.proto";
        message Leg { double lat = 1; }
        message M { google.protobuf.Timestamp at = 1; google.protobuf.Duration took = 2;
                    google.protobuf.UInt64Value n = 3; google.protobuf.StringValue s = 4; Leg leg = 5;
                    repeated Leg legs = 6; map<string, Leg> by_name = 7; map<uint32, string> names = 8;
                    repeated google.protobuf.Timestamp times = 9; }"#;
    assert_eq!(
        columns(text, "M"),
        [
            "at Timestamp(µs)",
            "took Duration(µs)",
            "n Decimal128(20, 0)",
            "s Utf8View",
            "leg Struct(\"lat\": Float64)",
            "legs List(Struct(\"lat\": Float64)) not null",
            "by_name Map(\"entries\": non-null Struct(\"key\": non-null Utf8, \"value\": Struct(\"lat\": Float64)), unsorted) not null",
            "names Map(\"entries\": non-null Struct(\"key\": non-null Int64, \"value\": Utf8View), unsorted) not null",
            "times List(Timestamp(µs)) not null",
        ]
    );
}

#[test]
fn recursion_is_cut_where_a_type_comes_again() {
    let text = r#"syntax = "proto3";
        message Node { int32 v = 1; Node next = 2; repeated Node kids = 3; map<string, Node> named = 4; Other other = 5; }
        message Other { Node back = 1; Other again = 2; int32 w = 3; }"#;
    assert_eq!(
        columns(text, "Node"),
        [
            "v Int32 not null",
            "next Binary",
            "kids List(Binary) not null",
            "named Map(\"entries\": non-null Struct(\"key\": non-null Utf8, \"value\": Binary), unsorted) not null",
            "other Struct(\"back\": Binary, \"again\": Binary, \"w\": Int32)",
        ]
    );
}

#[test]
fn a_schema_without_end_is_refused() {
    // Each message holds the next one twelve times: 12^5 leaves.
    let mut text = String::from("syntax = \"proto3\";\n");
    for depth in 0..5 {
        let fields: String = (1..=12).map(|n| format!("M{} f{n} = {n};", depth + 1)).collect();
        text.push_str(&format!("message M{depth} {{ {fields} }}\n"));
    }
    text.push_str("message M5 { int32 x = 1; }\nmessage Empty {}");
    let pool = pool(&text);
    let error = arrow_schema(&pool.get_message_by_name("M0").unwrap()).unwrap_err();
    assert!(error.message().contains("more than 10000 fields"), "{error}");
    let error = arrow_schema(&pool.get_message_by_name("Empty").unwrap()).unwrap_err();
    assert_eq!(error.message(), "the message Empty has no fields");
}

#[test]
fn extensions_follow_under_their_full_names() {
    let text = r#"syntax = "proto2"; package acme;
        message M { optional int32 a = 1; extensions 100 to 200; }
        extend M { repeated string words = 101; optional int64 priority = 100; }"#;
    assert_eq!(columns(text, "acme.M"), ["a Int32", "acme.priority Int64", "acme.words List(Utf8View) not null"]);
}

#[test]
fn chosen_rules() {
    let text = r#"syntax = "proto3"; enum E { A = 0; }
        message M { int32 n = 1; E e = 2; oneof kind { int32 x = 3; string y = 4; } M again = 5; repeated E es = 6; }"#;
    let rules = TypeRules { enum_numbers: true, unset_is_null: true, oneof_case: true, recursion_depth: 0 };
    let schema = schema_by(&pool(text).get_message_by_name("M").unwrap(), &rules).unwrap();
    let shown: Vec<String> = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    let all = ["n Int32", "e Int32", "kind Utf8View", "x Int32", "y Utf8View", "again Binary", "es List(Int32)"];
    assert_eq!(shown, all);
    let nullable: Vec<bool> = schema.fields().iter().map(|field| field.is_nullable()).collect();
    assert_eq!(nullable, [true, true, true, true, true, true, false]);
}
