//! How a function is declared, and what DataFusion is told of it.
//!
//! A [`Spec`] says everything once: name, arguments, result, the sentence of the manual, and the function itself, on whole
//! arrays. [`Declared`] is that to DataFusion.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Float,
    Boolean,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Texts,
    Array,
    Any,
}

/// Microseconds without a zone.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// Microseconds in UTC.
pub(crate) fn timestamp_tz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

/// Months, days and nanoseconds.
pub(crate) fn interval() -> DataType {
    DataType::Interval(IntervalUnit::MonthDayNano)
}

/// An array of texts.
pub(crate) fn texts() -> DataType {
    DataType::new_list(DataType::Utf8, true)
}

impl Kind {
    /// The type that a value of `given` is handed over as, if it may stand here.
    fn of(self, given: &DataType) -> Option<DataType> {
        use DataType as T;
        let is_text = matches!(given, T::Utf8 | T::LargeUtf8 | T::Utf8View);
        let fits = *given == T::Null
            || match self {
                Kind::Text => is_text,
                Kind::Integer => given.is_integer(),
                Kind::Float => given.is_numeric(),
                Kind::Boolean => *given == T::Boolean,
                Kind::Date => matches!(given, T::Date32 | T::Date64),
                Kind::Time => matches!(given, T::Time32(_) | T::Time64(_)),
                Kind::Timestamp => matches!(given, T::Timestamp(_, None) | T::Date32 | T::Date64),
                Kind::TimestampTz => matches!(given, T::Timestamp(_, Some(_))),
                Kind::Interval => matches!(given, T::Interval(_) | T::Duration(_)),
                Kind::Texts | Kind::Array => matches!(given, T::List(_) | T::LargeList(_) | T::FixedSizeList(..)),
                Kind::Any => true,
            };
        fits.then(|| match self {
            Kind::Text => T::Utf8,
            Kind::Integer => T::Int64,
            Kind::Float => T::Float64,
            Kind::Boolean => T::Boolean,
            Kind::Date => T::Date32,
            Kind::Time => T::Time64(TimeUnit::Microsecond),
            Kind::Timestamp => timestamp(),
            Kind::TimestampTz => timestamp_tz(),
            Kind::Interval => interval(),
            Kind::Texts => texts(),
            Kind::Array => match given {
                T::LargeList(item) | T::FixedSizeList(item, _) => T::List(item.clone()),
                other => other.clone(),
            },
            Kind::Any => given.clone(),
        })
    }
}

/// The type of a result.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gives {
    /// Always the same.
    Type(fn() -> DataType),
    /// It depends on the arguments' types.
    Of(fn(&[DataType]) -> Result<DataType>),
}

/// A function.
pub(crate) struct Spec {
    /// Its name in SQL, lower case.
    pub(crate) name: &'static str,
    /// How it is written, for the manual.
    pub(crate) usage: &'static str,
    /// What it does, for the manual. Empty: it stands behind syntax, and the manual leaves it out.
    pub(crate) doc: &'static str,
    /// The arguments that it takes; the first that fit are meant.
    pub(crate) takes: &'static [&'static [Kind]],
    /// Whether the last argument may stand several times.
    pub(crate) repeats: bool,
    /// Its result's type.
    pub(crate) gives: Gives,
    /// A cast's: whether for values of a type it is no more than Arrow's cast.
    pub(crate) is_plain: Option<fn(&DataType) -> bool>,
    /// The function: arrays of one length, of the types that `takes` names.
    pub(crate) run: fn(&[ArrayRef]) -> Result<ArrayRef>,
}

impl Spec {
    fn coerced(&self, given: &[DataType]) -> Option<Vec<DataType>> {
        self.takes.iter().find_map(|kinds| {
            let fits = match self.repeats {
                true => given.len() + 1 >= kinds.len(),
                false => given.len() == kinds.len(),
            };
            if !fits || kinds.is_empty() {
                return None;
            }
            let kind = |place: usize| kinds.get(place).or(kinds.last());
            given.iter().enumerate().map(|(place, given)| kind(place)?.of(given)).collect()
        })
    }
}

/// A [`Spec`], as DataFusion calls it.
struct Declared {
    spec: &'static Spec,
    signature: Signature,
}

/// The function that a declaration says. All of them are IMMUTABLE: equal arguments have equal results, for ever.
pub(crate) fn function(spec: &'static Spec) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Declared { spec, signature }))
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Declared({})", self.spec.name)
    }
}

impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.spec, other.spec)
    }
}

impl Eq for Declared {}

impl Hash for Declared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

impl ScalarUDFImpl for Declared {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let Some(types) = self.spec.coerced(given) else {
            let given: Vec<String> = given.iter().map(ToString::to_string).collect();
            return plan_err!(
                "No function matches {}({}): write {}",
                self.spec.name,
                given.join(", "),
                self.spec.usage
            );
        };
        Ok(types)
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match self.spec.gives {
            Gives::Type(data_type) => Ok(data_type()),
            Gives::Of(of) => of(given),
        }
    }

    /// A cast that is no more than Arrow's becomes one, which the planner knows more about.
    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if let (Some(is_plain), [value]) = (self.spec.is_plain, args.as_slice()) {
            let given = context.get_data_type(value)?;
            if is_plain(&given) {
                return Ok(ExprSimplifyResult::Simplified(cast(value.clone(), self.return_type(&[given])?)));
            }
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let result = (self.spec.run)(&arrays)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}
