//! Schemas of streams: protobuf descriptors and their Arrow types.
