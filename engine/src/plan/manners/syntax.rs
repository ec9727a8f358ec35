//! Casts and operators that become calls.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, ArrayElemTypeDef, BinaryOperator, CastKind, CharacterLength, DataType, ExactNumberInfo, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    Query, Subscript, TimezoneInfo, TypedString, UnaryOperator, Value, VisitMut, VisitorMut,
};

use super::super::functions::Functions;
use super::casts::arrow_type;
use super::rows;

/// Rewrites all expressions of a query.
pub(in crate::plan) fn rewrite(query: &mut Query, functions: &Functions) {
    rows::rewrite(query);
    // The visitor never breaks off.
    let _ = query.visit(&mut Syntax { functions, optimized: true });
}

/// `a.b[1].c`: a name behind an element is a field, which DataFusion takes as a text only. Names before it, `a.b`, may be
/// those of a table and its column, and are left to it.
fn name_fields(root: &Expr, chain: &mut [AccessExpr]) {
    let is_name = |access: &AccessExpr| matches!(access, AccessExpr::Dot(Expr::Identifier(_)));
    let names = match root {
        Expr::Identifier(_) => chain.iter().take_while(|access| is_name(access)).count(),
        _ => 0,
    };
    for access in chain.iter_mut().skip(names) {
        if let AccessExpr::Dot(Expr::Identifier(name)) = access {
            let field = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() };
            *access = AccessExpr::Dot(Expr::Value(Value::SingleQuotedString(field).into()));
        }
    }
}

/// Rewrites an expression.
pub(in crate::plan) fn rewrite_expression(expr: &mut Expr, functions: &Functions) {
    let _ = expr.visit(&mut Syntax { functions, optimized: false });
}

struct Syntax<'a> {
    functions: &'a Functions,
    /// Whether the optimizer sees what is made: a named cast is none before that.
    optimized: bool,
}

impl VisitorMut for Syntax<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(replacement) = self.replacement(expr) {
            *expr = replacement;
        } else if let Expr::CompoundFieldAccess { root, access_chain } = expr {
            access_chain.iter_mut().for_each(close_slice);
            name_fields(root, access_chain);
        }
        ControlFlow::Continue(())
    }
}

impl Syntax<'_> {
    /// A call, if the registry has the function.
    fn call(&self, name: &str, arguments: Vec<Expr>) -> Option<Expr> {
        self.functions.scalar(name).map(|_| call(name, arguments))
    }

    fn replacement(&self, expr: &Expr) -> Option<Expr> {
        match expr {
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr: value,
                data_type,
                array: false,
                format: None,
            } => self.cast(value, data_type),
            Expr::TypedString(TypedString { data_type, value, .. }) => {
                self.cast(&Expr::Value(value.clone()), data_type)
            }
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::UnaryOp { op, expr: value } => match op {
                UnaryOperator::PGSquareRoot => Some(call("sqrt", vec![(**value).clone()])),
                UnaryOperator::PGCubeRoot => Some(call("cbrt", vec![(**value).clone()])),
                UnaryOperator::PGAbs => Some(call("abs", vec![(**value).clone()])),
                UnaryOperator::BitwiseNot => {
                    let all = Expr::Value(Value::Number("-1".to_owned(), false).into());
                    Some(nested(binary((**value).clone(), BinaryOperator::PGBitwiseXor, all)))
                }
                _ => None,
            },
            Expr::AtTimeZone { timestamp, time_zone } => {
                self.call("timezone", vec![(**time_zone).clone(), (**timestamp).clone()])
            }
            Expr::Extract { field, expr: time, .. } => self.seconds(&field.to_string(), time),
            // `substring(x FROM 'pattern')`.
            Expr::Substring { expr: value, substring_from: Some(from), substring_for: None, .. } if is_text(from) => {
                self.call("regexp_substr", vec![(**value).clone(), (**from).clone()])
            }
            Expr::Function(function) => self.function(function),
            // DataFusion plans a list that is written so without what stands around the query that it is in.
            Expr::Array(array) if !array.elem.is_empty() => self.call("make_array", array.elem.clone()),
            _ => None,
        }
    }

    /// The cast as a call of PostgreSQL's function for it.
    fn cast(&self, value: &Expr, data_type: &DataType) -> Option<Expr> {
        // A parameter has the type that it is cast to: the driver is told.
        if is_parameter(value) {
            return None;
        }
        if let Some((name, length)) = sized(data_type) {
            let length = Expr::Value(Value::Number(length.to_string(), false).into());
            return self.call(name, vec![value.clone(), length]);
        }
        if let DataType::Timestamp(Some(_), zone) = data_type {
            // The precision is Arrow's business, the reading of a text is not.
            let name = if has_zone(*zone) { "timestamptz" } else { "timestamp" };
            let read = self.call(name, vec![value.clone()])?;
            return Some(Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(read),
                data_type: data_type.clone(),
                array: false,
                format: None,
            });
        }
        let Some(name) = function_of(data_type) else { return self.named_cast(value, data_type) };
        let read = match name {
            "text" | "int2" | "int4" | "int8" => decimal(value).unwrap_or_else(|| value.clone()),
            _ => value.clone(),
        };
        self.call(name, vec![read]).or_else(|| self.named_cast(value, data_type))
    }

    /// The cast as a call of `arrow_cast`, which has a name of its own.
    fn named_cast(&self, value: &Expr, data_type: &DataType) -> Option<Expr> {
        let arrow = arrow_type(data_type).filter(|_| self.optimized)?;
        self.call("arrow_cast", vec![value.clone(), Expr::Value(Value::SingleQuotedString(arrow).into())])
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
        let name = match op {
            BinaryOperator::PGExp => return Some(call("power", vec![left.clone(), right.clone()])),
            BinaryOperator::Arrow => "json_get",
            BinaryOperator::LongArrow => "json_get_text",
            BinaryOperator::HashArrow => "json_at",
            BinaryOperator::HashLongArrow => "json_at_text",
            BinaryOperator::Question => "json_has",
            BinaryOperator::QuestionPipe => "json_has_any",
            BinaryOperator::QuestionAnd => "json_has_all",
            BinaryOperator::PGOverlap => return Some(call("array_has_any", vec![left.clone(), right.clone()])),
            _ => return None,
        };
        let right = match (op, right) {
            // A path is an array.
            (BinaryOperator::HashArrow | BinaryOperator::HashLongArrow, Expr::Value(_)) => {
                self.call("_text", vec![right.clone()])?
            }
            _ => right.clone(),
        };
        self.call(name, vec![left.clone(), right])
    }

    /// Seconds and milliseconds with their fraction; DataFusion has whole ones.
    fn seconds(&self, field: &str, time: &Expr) -> Option<Expr> {
        let per_unit = match field.to_ascii_lowercase().as_str() {
            "second" | "seconds" | "sec" => "1000000.0",
            "millisecond" | "milliseconds" | "ms" => "1000.0",
            _ => return None,
        };
        let micros = Expr::Value(Value::SingleQuotedString("microsecond".to_owned()).into());
        let micros = self.call("float8", vec![call("date_part", vec![micros, time.clone()])])?;
        let per_unit = Expr::Value(Value::Number(per_unit.to_owned(), false).into());
        Some(nested(binary(micros, BinaryOperator::Divide, per_unit)))
    }

    fn function(&self, function: &Function) -> Option<Expr> {
        let [name] = function.name.0.as_slice() else { return None };
        let FunctionArguments::List(list) = &function.args else { return None };
        let name = name.as_ident()?.value.to_ascii_lowercase();
        // SQL's names for aggregates.
        if let Some(other) = [("every", "bool_and"), ("variance", "var_samp")].iter().find(|(of, _)| *of == name) {
            let mut function = function.clone();
            function.name = ObjectName::from(vec![Ident::new(other.1)]);
            return Some(Expr::Function(function));
        }
        if matches!(name.as_str(), "json_agg" | "jsonb_agg") {
            let mut list = function.clone();
            list.name = ObjectName::from(vec![Ident::new("array_agg")]);
            return self.call("to_json", vec![Expr::Function(list)]);
        }
        if name == "make_interval" {
            return self.call("make_interval", interval_parts(&list.args)?);
        }
        let arguments: Option<Vec<&Expr>> = list.args.iter().map(plain).collect();
        match (name.as_str(), arguments?.as_slice()) {
            ("mod", [left, right]) => {
                Some(nested(binary(nested((*left).clone()), BinaryOperator::Modulo, nested((*right).clone()))))
            }
            ("div", [left, right]) => {
                let quotient = binary(nested((*left).clone()), BinaryOperator::Divide, nested((*right).clone()));
                Some(call("trunc", vec![quotient]))
            }
            ("date_part", [field, time]) if is_text(field) => self.seconds(field.to_string().trim_matches('\''), time),
            // PostgreSQL's have all of the elements in mind, DataFusion's the first.
            ("array_remove", [list, value]) => Some(call("array_remove_all", vec![(*list).clone(), (*value).clone()])),
            ("array_replace", [list, from, to]) => {
                Some(call("array_replace_all", vec![(*list).clone(), (*from).clone(), (*to).clone()]))
            }
            ("array_length", [_, _]) if self.functions.scalar("array_upper").is_some() => {
                let zero = Expr::Value(Value::Number("0".to_owned(), false).into());
                Some(call("nullif", vec![Expr::Function(function.clone()), zero]))
            }
            ("age", [time]) => Some(call("age", vec![call("current_date", Vec::new()), (*time).clone()])),
            ("sign", [value]) => Some(call("signum", vec![(*value).clone()])),
            _ => None,
        }
    }
}

/// The function that casts to a type.
pub(super) fn function_of(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::Text | DataType::String(None) => "text",
        DataType::Varchar(None) | DataType::CharacterVarying(None) | DataType::CharVarying(None) => "text",
        DataType::Boolean | DataType::Bool => "bool",
        DataType::SmallInt(None) | DataType::Int2(None) => "int2",
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => "int4",
        DataType::BigInt(None) | DataType::Int8(None) => "int8",
        DataType::Real | DataType::Float4 => "float4",
        DataType::Float(ExactNumberInfo::Precision(1..=24)) => "float4",
        DataType::Float(_) | DataType::Double(ExactNumberInfo::None) | DataType::DoublePrecision | DataType::Float8 => {
            "float8"
        }
        DataType::Bytea => "bytea",
        DataType::Date => "date",
        DataType::Time(None, zone) if !has_zone(*zone) => "time",
        DataType::Timestamp(None, zone) => match has_zone(*zone) {
            true => "timestamptz",
            false => "timestamp",
        },
        DataType::Interval { fields: None, precision: None } => "interval",
        DataType::JSON => "json",
        DataType::JSONB => "jsonb",
        DataType::Uuid => "uuid",
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) => match function_of(item)? {
            "text" => "_text",
            "int4" => "_int4",
            "int8" => "_int8",
            "float8" => "_float8",
            "bool" => "_bool",
            _ => return None,
        },
        _ => return None,
    })
}

fn has_zone(zone: TimezoneInfo) -> bool {
    matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone)
}

/// Texts of a length: cut, or cut and filled up.
fn sized(data_type: &DataType) -> Option<(&'static str, u64)> {
    let characters = |length: &Option<CharacterLength>| match length {
        Some(CharacterLength::IntegerLength { length, .. }) => Some(*length),
        _ => None,
    };
    match data_type {
        DataType::Varchar(length) | DataType::CharacterVarying(length) | DataType::CharVarying(length) => {
            Some(("varchar", characters(length)?))
        }
        DataType::Char(length) | DataType::Character(length) => Some(("bpchar", characters(length).unwrap_or(1))),
        _ => None,
    }
}

/// A number with a point, as the NUMERIC that it is in PostgreSQL.
fn decimal(value: &Expr) -> Option<Expr> {
    let Expr::Value(literal) = value else { return None };
    let Value::Number(digits, _) = &literal.value else { return None };
    let (whole, fraction) = digits.split_once('.')?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_plain || whole.len() + fraction.len() > 38 {
        return None;
    }
    let scale = fraction.len();
    let precision = (whole.len() + scale).max(1);
    let text = Expr::Value(Value::SingleQuotedString(digits.clone()).into());
    Some(Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(text),
        data_type: DataType::Decimal(ExactNumberInfo::PrecisionAndScale(precision as u64, scale as i64)),
        array: false,
        format: None,
    })
}

/// `a[:2]` and `a[2:]` from the first and to the last.
fn close_slice(access: &mut AccessExpr) {
    if let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: None }) = access {
        let number = |value: &str| Expr::Value(Value::Number(value.to_owned(), false).into());
        lower_bound.get_or_insert_with(|| number("1"));
        upper_bound.get_or_insert_with(|| number("2147483647"));
    }
}

fn is_parameter(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_parameter(inner),
        Expr::Value(value) => matches!(value.value, Value::Placeholder(_)),
        _ => false,
    }
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
}

fn plain(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
        _ => None,
    }
}

/// The seven parts of `make_interval`, by place or by name; those that are left out are 0.
fn interval_parts(given: &[FunctionArg]) -> Option<Vec<Expr>> {
    const PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];
    let mut parts: Vec<Expr> = PARTS.iter().map(|_| Expr::Value(Value::Number("0".to_owned(), false).into())).collect();
    for (place, argument) in given.iter().enumerate() {
        let (place, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (place, value),
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(value),
                operator: FunctionArgOperator::RightArrow | FunctionArgOperator::Assignment,
            } => (PARTS.iter().position(|part| name.value.eq_ignore_ascii_case(part))?, value),
            _ => return None,
        };
        *parts.get_mut(place)? = value.clone();
    }
    Some(parts)
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn nested(expr: Expr) -> Expr {
    match expr {
        Expr::Nested(_) | Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) => expr,
        other => Expr::Nested(Box::new(other)),
    }
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let argument = |value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value));
    let list = FunctionArgumentList {
        duplicate_treatment: None,
        args: arguments.into_iter().map(argument).collect(),
        clauses: Vec::new(),
    };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_quote('"', name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
