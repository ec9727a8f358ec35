//! Functions of PostgreSQL that clients call and datafusion-pg-catalog doesn't have, or answers for another server.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use pgwire::api::Type;

use super::DATABASE;
use super::tables::SystemRelations;
use crate::frontend::Session;

type Body = Arc<dyn Fn(&[ColumnarValue], usize) -> Result<ColumnarValue> + Send + Sync>;

/// A function that is a closure. It takes any arguments, as many as `arguments` says.
struct Function {
    name: &'static str,
    /// Other names that it is called by.
    aliases: Vec<String>,
    signature: Signature,
    returns: DataType,
    body: Body,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.body, &other.body)
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.body)(&arguments.args, arguments.number_rows)
    }
}

fn function(
    name: &'static str,
    arguments: &[usize],
    returns: DataType,
    body: impl Fn(&[ColumnarValue], usize) -> Result<ColumnarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    let counts = arguments.iter().map(|count| match count {
        0 => datafusion::logical_expr::TypeSignature::Nullary,
        count => datafusion::logical_expr::TypeSignature::Any(*count),
    });
    let signature = Signature::one_of(counts.collect(), Volatility::Stable);
    // CURRENT_USER and its like are no names that a function can be called by: queries are rewritten to these.
    let aliases = vec![format!("rondel_{name}")];
    ScalarUDF::new_from_impl(Function { name, aliases, signature, returns, body: Arc::new(body) })
}

/// Always the same text.
fn constant(name: &'static str, text: String) -> ScalarUDF {
    function(name, &[0], DataType::Utf8, move |_, _| Ok(ColumnarValue::Scalar(ScalarValue::from(text.as_str()))))
}

/// Always NULL: comments that can't be given, parts of objects that don't exist.
fn nothing(name: &'static str, arguments: &[usize]) -> ScalarUDF {
    function(name, arguments, DataType::Utf8, |_, rows| Ok(ColumnarValue::Array(new_null_array(&DataType::Utf8, rows))))
}

/// Always true or false.
fn flag(name: &'static str, arguments: &[usize], value: bool) -> ScalarUDF {
    function(name, arguments, DataType::Boolean, move |_, rows| {
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(vec![value; rows]))))
    })
}

/// Always the same number: sizes of what has none.
fn number(name: &'static str, arguments: &[usize], value: i64) -> ScalarUDF {
    function(name, arguments, DataType::Int64, move |_, rows| {
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from_value(value, rows))))
    })
}

/// The functions that are the same for every connection.
pub(super) fn shared(relations: &SystemRelations) -> Vec<ScalarUDF> {
    let relations = relations.clone();
    let definition = function("pg_get_viewdef", &[1, 2], DataType::Utf8, move |arguments, rows| {
        let oids = cast(&arguments[0].to_array(rows)?, &DataType::Int32)?;
        let oids = oids.as_primitive::<Int32Type>();
        let texts = oids.iter().map(|oid| oid.and_then(|oid| relations.definition(oid)));
        Ok(ColumnarValue::Array(Arc::new(texts.collect::<StringArray>()) as ArrayRef))
    });
    let owner = function("pg_get_userbyid", &[1], DataType::Utf8, |_, rows| {
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(vec![DATABASE; rows]))))
    });
    let mut functions = vec![
        definition,
        owner,
        function("pg_size_pretty", &[1], DataType::Utf8, |arguments, rows| {
            let sizes = cast(&arguments[0].to_array(rows)?, &DataType::Utf8)?;
            let texts = sizes.as_string::<i32>().iter().map(|size| size.map(|size| format!("{size} bytes")));
            Ok(ColumnarValue::Array(Arc::new(texts.collect::<StringArray>())))
        }),
        format_type(),
        constant("version", format!("PostgreSQL {}", rondel_version())),
        constant("getdatabaseencoding", "UTF8".to_owned()),
        number("pg_table_size", &[1], 0),
        number("pg_indexes_size", &[1], 0),
        number("pg_database_size", &[1], 0),
        number("pg_tablespace_size", &[1], 0),
        // UTF-8, in PostgreSQL's numbers of encodings.
        number("pg_char_to_encoding", &[1], 6),
        flag("pg_is_in_recovery", &[0], false),
        flag("pg_ts_config_is_visible", &[1], true),
        flag("pg_ts_dict_is_visible", &[1], true),
        flag("pg_ts_parser_is_visible", &[1], true),
        flag("pg_ts_template_is_visible", &[1], true),
        flag("pg_conversion_is_visible", &[1], true),
        flag("pg_function_is_visible", &[1], true),
        flag("pg_type_is_visible", &[1], true),
        flag("pg_operator_is_visible", &[1], true),
        flag("pg_opclass_is_visible", &[1], true),
        flag("pg_collation_is_visible", &[1], true),
        flag("has_function_privilege", &[2, 3], true),
        flag("has_sequence_privilege", &[2, 3], true),
        flag("has_column_privilege", &[3, 4], true),
        flag("pg_has_role", &[2, 3], true),
    ];
    for (name, arguments) in [
        ("obj_description", [1, 2].as_slice()),
        ("col_description", &[2]),
        ("shobj_description", &[2]),
        ("pg_get_indexdef", &[1, 3]),
        ("pg_get_triggerdef", &[1, 2]),
        ("pg_get_ruledef", &[1, 2]),
        ("pg_get_functiondef", &[1]),
        ("pg_get_function_result", &[1]),
        ("pg_get_function_arguments", &[1]),
        ("pg_get_function_identity_arguments", &[1]),
        ("pg_get_serial_sequence", &[2]),
        ("pg_tablespace_location", &[1]),
    ] {
        functions.push(nothing(name, arguments));
    }
    functions
}

/// The functions that tell a connection of itself.
pub(super) fn of_connection(user: &str, session: &Arc<impl Session>) -> Vec<ScalarUDF> {
    let settings = Arc::clone(session);
    let current_setting = function("current_setting", &[1, 2], DataType::Utf8, move |arguments, rows| {
        let names = cast(&arguments[0].to_array(rows)?, &DataType::Utf8)?;
        let names = names.as_string::<i32>();
        let missing_ok = match arguments.get(1) {
            Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(ok)))) => *ok,
            _ => false,
        };
        let mut values = Vec::with_capacity(rows);
        for name in names.iter() {
            let value = name.and_then(|name| settings.get(&name.to_lowercase()));
            if let (None, Some(name), false) = (&value, name, missing_ok) {
                return exec_err!("unrecognized configuration parameter \"{name}\"");
            }
            values.push(value);
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(values))))
    });
    let settings = Arc::clone(session);
    let set_config = function("set_config", &[3], DataType::Utf8, move |arguments, rows| {
        let texts = |index: usize| cast(&arguments[index].to_array(rows)?, &DataType::Utf8);
        let (names, values) = (texts(0)?, texts(1)?);
        for (name, value) in names.as_string::<i32>().iter().zip(values.as_string::<i32>()) {
            let (Some(name), Some(value)) = (name, value) else { continue };
            settings.set(&name.to_lowercase(), value)?;
        }
        Ok(ColumnarValue::Array(values))
    });
    let user = |name| constant(name, user.to_owned());
    vec![user("session_user"), user("current_user"), user("user"), current_setting, set_config]
}

/// A type's name as SQL writes it.
fn format_type() -> ScalarUDF {
    function("format_type", &[2], DataType::Utf8, |arguments, rows| {
        let integers = |index: usize| cast(&arguments[index].to_array(rows)?, &DataType::Int32);
        let (oids, modifiers) = (integers(0)?, integers(1)?);
        let pairs = oids.as_primitive::<Int32Type>().iter().zip(modifiers.as_primitive::<Int32Type>());
        let names = pairs.map(|(oid, modifier)| oid.map(|oid| type_name(oid as u32, modifier.unwrap_or(-1))));
        Ok(ColumnarValue::Array(Arc::new(names.collect::<StringArray>())))
    })
}

fn type_name(oid: u32, modifier: i32) -> String {
    let Some(pg_type) = Type::from_oid(oid) else { return "???".to_owned() };
    if let Some(item) = pg_type.name().strip_prefix('_') {
        return format!("{}[]", plain_name(item, -1));
    }
    plain_name(pg_type.name(), modifier)
}

/// The words of the standard for the types that it knows.
fn plain_name(name: &str, modifier: i32) -> String {
    match name {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "varchar" => "character varying",
        "bpchar" => "character",
        "char" => "\"char\"",
        "time" => "time without time zone",
        "timetz" => "time with time zone",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "numeric" if modifier >= 4 => {
            return format!("numeric({},{})", (modifier - 4) >> 16 & 0xffff, (modifier - 4) & 0xffff);
        }
        other => other,
    }
    .to_owned()
}

fn rondel_version() -> String {
    format!("15.0 (Rondel {})", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_of_the_standard() {
        for (pg_type, modifier, name) in [
            (Type::INT8, -1, "bigint"),
            (Type::FLOAT8_ARRAY, -1, "double precision[]"),
            (Type::NUMERIC, ((10 << 16) | 2) + 4, "numeric(10,2)"),
            (Type::NUMERIC, -1, "numeric"),
            (Type::RECORD, -1, "record"),
            (Type::RECORD_ARRAY, -1, "record[]"),
            (Type::TIMESTAMPTZ, -1, "timestamp with time zone"),
        ] {
            assert_eq!(type_name(pg_type.oid(), modifier), name);
        }
        assert_eq!(type_name(4_000_000_000, -1), "???");
    }
}
