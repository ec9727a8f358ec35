//! From a message's descriptor to its decode plan: columns, tables, slots, and how the columns become arrays.

use std::collections::HashMap;

use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, FieldRef, Fields};
use prost_reflect::{EnumDescriptor, Kind, MessageDescriptor, OneofDescriptor, Value};

use super::column::{Bits, Blob, Fixed, List};
use super::finish::{Nulls, Output};
use super::plan::{EnumPlan, Member, MessagePlan, NONE, Op, Plan, Slot};
use super::store::{ColumnId, Store, Table};
use super::text::{Labels, Text, view};
use super::trouble::Trouble;
use super::wire;
use crate::error::{Error, Result};
use crate::schema::types::{
    ANY_JSON, Ancestors, MessageColumn, TypeRules, ValueClass, classify, columns_of, is_any, is_null_by_default,
    is_nullable,
};
use crate::schema::{Leaves, MessageField, fields_of};

/// What compiling gives: a plan, the store that it works on, and the arrays to make of the store.
pub(super) struct Compiled {
    pub(super) plan: Plan,
    pub(super) store: Store,
    pub(super) outputs: Vec<Output>,
    pub(super) trouble: Trouble,
}

/// Compiles the columns of `message` at `projection` (places in the schema's order), which have the types `fields`, and of which
/// `leaves` are read (none given: all).
pub(super) fn compile(
    message: &MessageDescriptor,
    (projection, leaves): (&[usize], &[Leaves]),
    fields: &Fields,
    rules: &TypeRules,
) -> Result<Compiled> {
    let mut compiler = Compiler { rules: *rules, ..Compiler::default() };
    compiler.store.tables.push(Table::default());
    let whole = std::iter::repeat(&Leaves::Whole);
    let wanted = projection.iter().zip(fields).zip(leaves.iter().chain(whole));
    let wanted =
        wanted.map(|((place, column_type), leaves)| Wanted { place: *place, column_type, leaves: Some(leaves) });
    let (root, outputs) = compiler.message(message, wanted.collect(), 0, &mut Vec::new())?;
    compiler.plan.root = root;
    compiler.plan.check = compiler.plan.checks.message(message);
    compiler.plan.name = message.full_name().to_owned();
    Ok(Compiled { plan: compiler.plan, store: compiler.store, outputs, trouble: Trouble::default() })
}

#[derive(Default)]
struct Compiler {
    plan: Plan,
    store: Store,
    enums: HashMap<String, CompiledEnum>,
    rules: TypeRules,
}

/// The columns that say which member of a oneof is set, by the oneof's name.
type Cases = HashMap<String, u32>;

#[derive(Clone)]
struct CompiledEnum {
    place: usize,
    names: Buffer,
}

/// A column of a message.
struct Wanted<'a> {
    /// In the order of the message's columns.
    place: usize,
    column_type: &'a FieldRef,
    /// What is read of it; `None`: nothing.
    leaves: Option<&'a Leaves>,
}

/// How the values of a field are read.
struct ValuePlan {
    op: Op,
    column: usize,
    detail: usize,
    output: Output,
}

impl Compiler {
    /// Compiles a message into columns of `table`; the outputs are in the order of `wanted`.
    fn message(
        &mut self,
        message: &MessageDescriptor,
        wanted: Vec<Wanted<'_>>,
        table: usize,
        ancestors: &mut Ancestors,
    ) -> Result<(usize, Vec<Output>)> {
        let mut plan = MessagePlan::at(ancestors.len() as u32);
        ancestors.push(message.full_name().to_owned());
        let columns = columns_of(message, &self.rules);
        let mut outputs = Vec::with_capacity(wanted.len());
        let mut cases = Cases::new();
        // What a oneof's own column shows, by the members' places; known when all members have theirs.
        let mut asked: Vec<(usize, OneofDescriptor)> = Vec::new();
        let mut places: HashMap<u32, u32> = HashMap::new();
        for Wanted { place, column_type, leaves } in wanted {
            let column = columns
                .get(place)
                .ok_or_else(|| Error::internal(format!("{} has no column {place}", message.full_name())))?;
            let Some(leaves) = leaves else {
                outputs.push(Output::Unread(column_type.data_type().clone()));
                continue;
            };
            match column {
                MessageColumn::Field(field) => {
                    let member = self.member(field, &mut cases, table);
                    let from = self.store.tables[table].columns.len();
                    let output = self.field((field, leaves), member, column_type, &mut plan, table, ancestors)?;
                    if let Some(member) = member {
                        self.plan.members[member as usize].from = from;
                        self.plan.members[member as usize].to = self.store.tables[table].columns.len();
                        places.insert(field.number(), member);
                    }
                    outputs.push(output);
                }
                MessageColumn::Case(oneof) => {
                    let column = self.case(oneof, &mut cases, table) as usize;
                    asked.push((outputs.len(), oneof.clone()));
                    outputs.push(Output::Case { column, names: Vec::new() });
                }
            }
        }
        self.skip_unread_members(message, &cases, &mut places, &mut plan, table);
        for (output, oneof) in asked {
            if let Output::Case { names, .. } = &mut outputs[output] {
                let named = oneof.fields().filter_map(|field| Some((*places.get(&field.number())? as i32 + 1, field)));
                *names = named.map(|(place, field)| (place, field.name().to_owned())).collect();
            }
        }
        ancestors.pop();
        self.plan.messages.push(plan);
        Ok((self.plan.messages.len() - 1, outputs))
    }

    /// A member that is not read still unsets the others.
    fn skip_unread_members(
        &mut self,
        message: &MessageDescriptor,
        cases: &Cases,
        places: &mut HashMap<u32, u32>,
        plan: &mut MessagePlan,
        table: usize,
    ) {
        for field in fields_of(message) {
            let known = field.oneof().and_then(|oneof| cases.get(oneof.name()).copied());
            let (Some(case), false) = (known, places.contains_key(&field.number())) else { continue };
            self.plan.members.push(Member { case, table, from: 0, to: 0 });
            let member = self.plan.members.len() as u32 - 1;
            places.insert(field.number(), member);
            let tag = wire::tag(field.number(), wire_type(&field));
            plan.insert(tag, Slot { op: Op::Skip, column: tag, member, number: field.number(), ..Slot::UNKNOWN });
        }
    }

    /// The column that says which member of the oneof is set; `cases` holds those that the message has.
    fn case(&mut self, oneof: &OneofDescriptor, cases: &mut Cases, table: usize) -> u32 {
        if let Some(case) = cases.get(oneof.name()) {
            return *case;
        }
        self.store.words.push(Fixed::new(0));
        let case = self.store.words.len() - 1;
        self.store.tables[table].columns.push(ColumnId::Word(case));
        cases.insert(oneof.name().to_owned(), case as u32);
        case as u32
    }

    /// A place among the members of its oneof, for a field that is in one.
    fn member(&mut self, field: &MessageField, cases: &mut Cases, table: usize) -> Option<u32> {
        let oneof = field.oneof()?;
        let case = self.case(&oneof, cases, table);
        self.plan.members.push(Member { case, table, from: 0, to: 0 });
        Some(self.plan.members.len() as u32 - 1)
    }

    fn field(
        &mut self,
        (field, leaves): (&MessageField, &Leaves),
        member: Option<u32>,
        column_type: &FieldRef,
        plan: &mut MessagePlan,
        table: usize,
        ancestors: &mut Ancestors,
    ) -> Result<Output> {
        let number = field.number();
        if field.is_list() || field.is_map() {
            let (slot, output) = self.list(field, column_type.data_type(), table, ancestors)?;
            if is_packable(&field.kind()) {
                plan.insert(wire::tag(number, wire::DELIMITED), Slot { packed: true, ..slot });
            }
            plan.insert(wire::tag(number, wire_type(field)), slot);
            return Ok(output);
        }
        let nullable = is_nullable(field, &self.rules);
        let presence = (nullable || field.is_required()).then(|| {
            self.store.bits.push(Bits::new(false));
            self.store.tables[table].columns.push(ColumnId::Bits(self.store.bits.len() - 1));
            self.store.bits.len() - 1
        });
        let default = field.default_value();
        let value = self.value((field, leaves), &default, column_type.data_type(), table, ancestors)?;
        let presence_bit = presence.map_or(NONE, |bit| bit as u32);
        if field.is_required() {
            plan.required.push(presence_bit);
        }
        let member = member.unwrap_or(NONE);
        let slot = Slot {
            op: value.op,
            presence: presence_bit,
            member,
            column: value.column as u32,
            detail: value.detail as u32,
            number,
            ..Slot::UNKNOWN
        };
        plan.insert(wire::tag(number, wire_type(field)), slot);
        Ok(value.output.with_nulls(match presence.filter(|_| nullable) {
            Some(bit) => Nulls::Absent(bit),
            None if is_null_by_default(field, &self.rules) => Nulls::Default,
            None => Nulls::Never,
        }))
    }

    fn list(
        &mut self,
        field: &MessageField,
        data_type: &DataType,
        table: usize,
        ancestors: &mut Ancestors,
    ) -> Result<(Slot, Output)> {
        self.store.tables.push(Table::default());
        let elements = self.store.tables.len() - 1;
        self.store.lists.push(List::new(elements));
        let list = self.store.lists.len() - 1;
        self.store.tables[table].columns.push(ColumnId::List(list));
        let slot = Slot { list: list as u32, number: field.number(), ..Slot::UNKNOWN };
        match (field.kind(), data_type) {
            (Kind::Message(entry), DataType::Map(entries, _)) if field.is_map() => {
                let (plan, outputs) = self.entry(&entry, entries, elements, ancestors)?;
                let slot = Slot { op: Op::Message, detail: plan as u32, ..slot };
                Ok((slot, Output::map(list, entries.clone(), outputs)?))
            }
            (kind, DataType::List(item)) => {
                let field = (field, &Leaves::Whole);
                let value = self.value(field, &kind.default_value(), item.data_type(), elements, ancestors)?;
                let slot = Slot { op: value.op, column: value.column as u32, detail: value.detail as u32, ..slot };
                Ok((slot, Output::List { list, item: item.clone(), child: Box::new(value.output) }))
            }
            (_, other) => Err(Error::internal(format!("{} was given the type {other}", field.full_name()))),
        }
    }

    /// A map's entry: a message of a key and a value, of which neither is ever NULL.
    fn entry(
        &mut self,
        entry: &MessageDescriptor,
        entries: &FieldRef,
        table: usize,
        ancestors: &mut Ancestors,
    ) -> Result<(usize, Vec<Output>)> {
        let DataType::Struct(types) = entries.data_type() else {
            return Err(Error::internal("the entries of a map are no struct"));
        };
        let mut plan = MessagePlan::at(ancestors.len() as u32);
        ancestors.push(entry.full_name().to_owned());
        let mut outputs = Vec::new();
        let parts = [entry.map_entry_key_field(), entry.map_entry_value_field()].map(MessageField::Own);
        for (field, column_type) in parts.iter().zip(types) {
            let default = field.kind().default_value();
            let whole = (field, &Leaves::Whole);
            // A value that is absent is an empty message: one that lacks what it requires.
            let presence = is_incomplete_by_default(&field.kind()).then(|| {
                self.store.bits.push(Bits::new(false));
                self.store.tables[table].columns.push(ColumnId::Bits(self.store.bits.len() - 1));
                (self.store.bits.len() - 1) as u32
            });
            plan.required.extend(presence);
            let value = self.value(whole, &default, column_type.data_type(), table, ancestors)?;
            let slot = Slot {
                op: value.op,
                presence: presence.unwrap_or(NONE),
                column: value.column as u32,
                detail: value.detail as u32,
                number: field.number(),
                ..Slot::UNKNOWN
            };
            plan.insert(wire::tag(field.number(), wire_type(field)), slot);
            outputs.push(value.output);
        }
        ancestors.pop();
        self.plan.messages.push(plan);
        Ok((self.plan.messages.len() - 1, outputs))
    }

    fn value(
        &mut self,
        (field, leaves): (&MessageField, &Leaves),
        default: &Value,
        data_type: &DataType,
        table: usize,
        ancestors: &mut Ancestors,
    ) -> Result<ValuePlan> {
        match classify(field, ancestors, &self.rules) {
            ValueClass::Scalar(kind) => Ok(self.scalar(&kind, default, data_type, table)),
            ValueClass::Enum(_) if self.rules.enum_numbers => {
                Ok(self.word(Op::Int32, default.as_enum_number().unwrap_or(0), data_type, table))
            }
            ValueClass::Enum(values) => {
                let compiled = self.enumeration(&values);
                let number = default.as_enum_number().unwrap_or(0);
                let view = self.plan.enums[compiled.place].view(number);
                self.store.labels.push(Labels::new(view, compiled.names));
                let id = ColumnId::Labels(self.store.labels.len() - 1);
                let plan = self.column(Op::Enum, id, data_type, table);
                Ok(ValuePlan { detail: compiled.place, ..plan })
            }
            ValueClass::Timestamp => Ok(self.long(Op::Timestamp, 0, data_type, table)),
            ValueClass::Duration => Ok(self.long(Op::Duration, 0, data_type, table)),
            ValueClass::Wrapper(inner) => {
                let kind = inner.kind();
                let value = self.scalar(&kind, &kind.default_value(), data_type, table);
                let mut plan = MessagePlan::at(ancestors.len() as u32);
                let slot = Slot { op: value.op, column: value.column as u32, number: inner.number(), ..Slot::UNKNOWN };
                let inner = MessageField::Own(inner);
                plan.insert(wire::tag(inner.number(), wire_type(&inner)), slot);
                self.plan.messages.push(plan);
                let detail = self.plan.messages.len() - 1;
                let op = if field.is_group() { Op::Group } else { Op::Message };
                Ok(ValuePlan { op, detail, ..value })
            }
            ValueClass::Message(message) => {
                let DataType::Struct(fields) = data_type else {
                    return Err(Error::internal(format!("{} was given the type {data_type}", field.full_name())));
                };
                // What is shown of an Any is made of all of it.
                let leaves = if is_any(&message) { &Leaves::Whole } else { leaves };
                let wanted = |(place, column_type): (usize, _)| {
                    let column_type: &FieldRef = column_type;
                    Wanted { place, column_type, leaves: leaves.field(column_type.name()) }
                };
                let shown = fields.iter().filter(|field| !(is_any(&message) && field.name() == ANY_JSON));
                let (detail, mut children) =
                    self.message(&message, shown.enumerate().map(wanted).collect(), table, ancestors)?;
                if children.len() < fields.len() {
                    children.push(Output::AnyJson { pool: message.parent_pool().clone() });
                }
                let op = if field.is_group() { Op::Group } else { Op::Message };
                let output = Output::Struct { fields: fields.clone(), children, nulls: Nulls::Never };
                Ok(ValuePlan { op, column: 0, detail, output })
            }
            ValueClass::Json(kind) => {
                self.store.blobs.push(Blob::new(&[]));
                let column = self.store.blobs.len() - 1;
                self.store.tables[table].columns.push(ColumnId::Blob(column));
                let output = Output::Json { column, kind, nulls: Nulls::Never };
                Ok(ValuePlan { op: Op::Json, column, detail: kind as usize, output })
            }
            ValueClass::Raw(message) => {
                self.store.blobs.push(Blob::new(&[]));
                let id = ColumnId::Blob(self.store.blobs.len() - 1);
                let op = if field.is_group() { Op::RawGroup } else { Op::Raw };
                let detail = self.plan.checks.message(&message);
                Ok(ValuePlan { detail, ..self.column(op, id, data_type, table) })
            }
        }
    }

    fn scalar(&mut self, kind: &Kind, default: &Value, data_type: &DataType, table: usize) -> ValuePlan {
        match kind {
            Kind::Int32 => self.word(Op::Int32, default.as_i32().unwrap_or(0), data_type, table),
            Kind::Sint32 => self.word(Op::Sint32, default.as_i32().unwrap_or(0), data_type, table),
            Kind::Sfixed32 => self.word(Op::Bits32, default.as_i32().unwrap_or(0), data_type, table),
            Kind::Float => self.word(Op::Bits32, default.as_f32().unwrap_or(0.0).to_bits() as i32, data_type, table),
            Kind::Int64 => self.long(Op::Int64, default.as_i64().unwrap_or(0), data_type, table),
            Kind::Sint64 => self.long(Op::Sint64, default.as_i64().unwrap_or(0), data_type, table),
            Kind::Sfixed64 => self.long(Op::Bits64, default.as_i64().unwrap_or(0), data_type, table),
            Kind::Double => self.long(Op::Bits64, default.as_f64().unwrap_or(0.0).to_bits() as i64, data_type, table),
            Kind::Uint32 => self.long(Op::Uint32, default.as_u32().unwrap_or(0).into(), data_type, table),
            Kind::Fixed32 => self.long(Op::Fixed32, default.as_u32().unwrap_or(0).into(), data_type, table),
            Kind::Uint64 => self.wide(Op::Uint64, default.as_u64().unwrap_or(0), data_type, table),
            Kind::Fixed64 => self.wide(Op::Fixed64, default.as_u64().unwrap_or(0), data_type, table),
            Kind::Bool => {
                self.store.bits.push(Bits::new(default.as_bool().unwrap_or(false)));
                let id = ColumnId::Bits(self.store.bits.len() - 1);
                self.column(Op::Bool, id, data_type, table)
            }
            Kind::String if data_type == &DataType::Utf8 => {
                self.store.blobs.push(Blob::new(default.as_str().unwrap_or("").as_bytes()));
                let id = ColumnId::Blob(self.store.blobs.len() - 1);
                self.column(Op::BlobText, id, data_type, table)
            }
            Kind::String => {
                self.store.texts.push(Text::new(default.as_str().unwrap_or("")));
                let id = ColumnId::Text(self.store.texts.len() - 1);
                self.column(Op::Text, id, data_type, table)
            }
            // Messages and enums are no scalars; what remains is bytes.
            Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => {
                let default: &[u8] = default.as_bytes().map_or(&[], |bytes| bytes);
                self.store.blobs.push(Blob::new(default));
                let id = ColumnId::Blob(self.store.blobs.len() - 1);
                self.column(Op::Bytes, id, data_type, table)
            }
        }
    }

    fn word(&mut self, op: Op, default: i32, data_type: &DataType, table: usize) -> ValuePlan {
        self.store.words.push(Fixed::new(default));
        let id = ColumnId::Word(self.store.words.len() - 1);
        self.column(op, id, data_type, table)
    }

    fn long(&mut self, op: Op, default: i64, data_type: &DataType, table: usize) -> ValuePlan {
        self.store.longs.push(Fixed::new(default));
        let id = ColumnId::Long(self.store.longs.len() - 1);
        self.column(op, id, data_type, table)
    }

    fn wide(&mut self, op: Op, default: u64, data_type: &DataType, table: usize) -> ValuePlan {
        self.store.wides.push(Fixed::new(default.into()));
        let id = ColumnId::Wide(self.store.wides.len() - 1);
        self.column(op, id, data_type, table)
    }

    fn column(&mut self, op: Op, id: ColumnId, data_type: &DataType, table: usize) -> ValuePlan {
        self.store.tables[table].columns.push(id);
        let output = Output::Column { id, data_type: data_type.clone(), nulls: Nulls::Never };
        ValuePlan { op, column: id.number(), detail: 0, output }
    }

    fn enumeration(&mut self, values: &EnumDescriptor) -> CompiledEnum {
        if let Some(compiled) = self.enums.get(values.full_name()) {
            return compiled.clone();
        }
        let mut plan = EnumPlan::default();
        let mut names: Vec<u8> = Vec::new();
        // Backwards, so that of several names for one number the first stays.
        for value in values.enum_descriptor_proto().value.iter().rev() {
            plan.insert(value.number(), view(value.name().as_bytes(), names.len()));
            names.extend_from_slice(value.name().as_bytes());
        }
        self.plan.enums.push(plan);
        let compiled = CompiledEnum { place: self.plan.enums.len() - 1, names: Buffer::from_vec(names) };
        self.enums.insert(values.full_name().to_owned(), compiled.clone());
        compiled
    }
}

/// The wire type of one value of the field.
pub(super) fn wire_type(field: &MessageField) -> u32 {
    match field.kind() {
        _ if field.is_group() => wire::START_GROUP,
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => wire::FIXED64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => wire::FIXED32,
        Kind::String | Kind::Bytes | Kind::Message(_) => wire::DELIMITED,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => wire::VARINT,
    }
}

fn is_packable(kind: &Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

/// Whether a message of which nothing is there lacks a field that is required.
pub(super) fn is_incomplete_by_default(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message) if fields_of(message).iter().any(MessageField::is_required))
}
