//! TPC-H's rows from a seed: small, and weighted so that every query has an answer.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rondel_tests::Result;

const REGIONS: [&str; 5] = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];
/// Nations with their regions.
const NATIONS: [(&str, i64); 25] = [
    ("ALGERIA", 0),
    ("ARGENTINA", 1),
    ("BRAZIL", 1),
    ("CANADA", 1),
    ("EGYPT", 4),
    ("ETHIOPIA", 0),
    ("FRANCE", 3),
    ("GERMANY", 3),
    ("INDIA", 2),
    ("INDONESIA", 2),
    ("IRAN", 4),
    ("IRAQ", 4),
    ("JAPAN", 2),
    ("JORDAN", 4),
    ("KENYA", 0),
    ("MOROCCO", 0),
    ("MOZAMBIQUE", 0),
    ("PERU", 1),
    ("CHINA", 2),
    ("ROMANIA", 3),
    ("SAUDI ARABIA", 4),
    ("VIETNAM", 2),
    ("RUSSIA", 3),
    ("UNITED KINGDOM", 3),
    ("UNITED STATES", 1),
];
/// Nations that the queries ask for have suppliers.
const SUPPLIERS_OF: [i64; 10] = [7, 6, 20, 3, 2, 8, 18, 23, 7, 3];
const SEGMENTS: [&str; 5] = ["AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD"];
const PRIORITIES: [&str; 5] = ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"];
const COLOURS: [&str; 12] = [
    "almond",
    "azure",
    "blush",
    "chocolate",
    "cornsilk",
    "forest",
    "green",
    "ivory",
    "lemon",
    "navy",
    "plum",
    "salmon",
];
const TYPES: [[&str; 6]; 3] = [
    ["STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO"],
    ["ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED", "POLISHED"],
    ["TIN", "NICKEL", "BRASS", "STEEL", "COPPER", "BRASS"],
];
const CONTAINERS: [&str; 8] =
    ["SM CASE", "SM BOX", "MED BAG", "MED BOX", "LG CASE", "LG PACK", "WRAP JAR", "JUMBO DRUM"];
const BRANDS: [i64; 6] = [12, 23, 34, 45, 11, 52];
const SIZES: [i32; 9] = [15, 49, 14, 23, 45, 19, 3, 36, 9];
const SHIP_MODES: [&str; 7] = ["AIR", "MAIL", "SHIP", "AIR", "TRUCK", "REG AIR", "FOB"];
const SHIP_INSTRUCTIONS: [&str; 4] = ["DELIVER IN PERSON", "COLLECT COD", "DELIVER IN PERSON", "NONE"];
/// 1992-01-01 and the days until the last order.
const FIRST_DAY: i32 = 8_035;
const ORDER_DAYS: i32 = 2_405;
/// 1995-06-17: what came until then may have been returned.
const TODAY: i32 = 9_298;
const SEED: u64 = 0x7C9;

/// How many rows there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    suppliers: i64,
    parts: i64,
    customers: i64,
    orders: i64,
}

impl Size {
    /// So many thousandths of the benchmark's unit.
    pub(super) fn thousandths(count: i64) -> Self {
        Self { suppliers: 10 * count, parts: 200 * count, customers: 150 * count, orders: 1_500 * count }
    }
}

/// The columns of a table as they grow.
#[derive(Default)]
struct Columns(Vec<(&'static str, ArrayRef)>);

impl Columns {
    fn big(mut self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        self.0.push((name, Arc::new(Int64Array::from_iter_values(values))));
        self
    }

    fn int(mut self, name: &'static str, values: impl IntoIterator<Item = i32>) -> Self {
        self.0.push((name, Arc::new(Int32Array::from_iter_values(values))));
        self
    }

    fn day(mut self, name: &'static str, values: impl IntoIterator<Item = i32>) -> Self {
        self.0.push((name, Arc::new(Date32Array::from_iter_values(values))));
        self
    }

    fn text<T: AsRef<str>>(mut self, name: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        self.0.push((name, Arc::new(StringArray::from_iter_values(values))));
        self
    }

    /// Hundredths.
    fn money(mut self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Result<Self> {
        let values = Decimal128Array::from_iter_values(values.into_iter().map(i128::from));
        self.0.push((name, Arc::new(values.with_precision_and_scale(15, 2)?)));
        Ok(self)
    }

    fn batch(self) -> Result<RecordBatch> {
        Ok(RecordBatch::try_from_iter(self.0)?)
    }
}

fn chance(table: u64) -> StdRng {
    StdRng::seed_from_u64(SEED * 100 + table)
}

fn one_of<T: Copy>(chance: &mut StdRng, of: &[T]) -> T {
    of[chance.random_range(0..of.len())]
}

fn many<T>(count: i64, mut value: impl FnMut(i64) -> T) -> Vec<T> {
    (1..=count).map(&mut value).collect()
}

fn comment(chance: &mut StdRng) -> String {
    let words = ["quick", "requests", "special", "deposits", "sleep", "final", "packages", "ironic"];
    (0..4).map(|_| one_of(chance, &words)).collect::<Vec<_>>().join(" ")
}

fn phone(chance: &mut StdRng, nation: i64) -> String {
    format!("{}-{}-{}", nation + 10, chance.random_range(100..1000), chance.random_range(1000..10_000))
}

/// What a part costs, in hundredths.
fn retail_price(part: i64) -> i64 {
    90_000 + part / 10 % 20_001 + 100 * (part % 1_000)
}

/// All tables by name.
pub(super) fn tables(size: Size) -> Result<Vec<(&'static str, RecordBatch)>> {
    let (orders, lines) = orders_and_lines(size)?;
    Ok(vec![
        ("region", region()?),
        ("nation", nation()?),
        ("supplier", supplier(size)?),
        ("customer", customer(size)?),
        ("part", part(size)?),
        ("partsupp", partsupp(size)?),
        ("orders", orders),
        ("lineitem", lines),
    ])
}

fn region() -> Result<RecordBatch> {
    Columns::default().big("r_regionkey", 0..5).text("r_name", REGIONS).text("r_comment", REGIONS).batch()
}

fn nation() -> Result<RecordBatch> {
    let names = || NATIONS.iter().map(|(name, _)| name);
    Columns::default()
        .big("n_nationkey", 0..25)
        .text("n_name", names())
        .big("n_regionkey", NATIONS.iter().map(|(_, region)| *region))
        .text("n_comment", names())
        .batch()
}

fn supplier(size: Size) -> Result<RecordBatch> {
    let mut chance = chance(2);
    let of = |key: i64| SUPPLIERS_OF[(key as usize - 1) % SUPPLIERS_OF.len()];
    let count = size.suppliers;
    let comments =
        many(count, |key| if key % 10 == 4 { "slow Customer and Complaints".to_owned() } else { comment(&mut chance) });
    let phones = many(count, |key| phone(&mut chance, of(key)));
    Columns::default()
        .big("s_suppkey", 1..=count)
        .text("s_name", many(count, |key| format!("Supplier#{key:09}")))
        .text("s_address", many(count, |key| format!("{key} Harbour Street")))
        .big("s_nationkey", many(count, of))
        .text("s_phone", phones)
        .money("s_acctbal", many(count, |_| chance.random_range(-99_999..999_999)))?
        .text("s_comment", comments)
        .batch()
}

fn customer(size: Size) -> Result<RecordBatch> {
    let mut chance = chance(3);
    let count = size.customers;
    let nations = many(count, |_| chance.random_range(0..25_i64));
    let phones: Vec<String> = nations.iter().map(|nation| phone(&mut chance, *nation)).collect();
    let balances = many(count, |_| chance.random_range(-99_999..999_999));
    Columns::default()
        .big("c_custkey", 1..=count)
        .text("c_name", many(count, |key| format!("Customer#{key:09}")))
        .text("c_address", many(count, |key| format!("{key} Market Street")))
        .big("c_nationkey", nations)
        .text("c_phone", phones)
        .money("c_acctbal", balances)?
        .text("c_mktsegment", many(count, |_| one_of(&mut chance, &SEGMENTS)))
        .text("c_comment", many(count, |_| comment(&mut chance)))
        .batch()
}

fn part(size: Size) -> Result<RecordBatch> {
    let mut chance = chance(4);
    let count = size.parts;
    let names = many(count, |_| (0..5).map(|_| one_of(&mut chance, &COLOURS)).collect::<Vec<_>>().join(" "));
    // One part in ten is the steel of Q8, another the boxes of Q17.
    let types = many(count, |key| match key % 10 {
        0 => "ECONOMY ANODIZED STEEL".to_owned(),
        _ => TYPES.map(|words| one_of(&mut chance, &words)).join(" "),
    });
    let brands = many(count, |key| if key % 10 == 5 { 23 } else { one_of(&mut chance, &BRANDS) });
    let containers = many(count, |key| if key % 10 == 5 { "MED BOX" } else { one_of(&mut chance, &CONTAINERS) });
    let sizes = many(count, |key| match key % 2 {
        0 => one_of(&mut chance, &SIZES),
        _ => chance.random_range(1..=50),
    });
    Columns::default()
        .big("p_partkey", 1..=count)
        .text("p_name", names)
        .text("p_mfgr", brands.iter().map(|brand| format!("Manufacturer#{}", brand / 10)))
        .text("p_brand", brands.iter().map(|brand| format!("Brand#{brand}")))
        .text("p_type", types)
        .int("p_size", sizes)
        .text("p_container", containers)
        .money("p_retailprice", many(count, retail_price))?
        .text("p_comment", many(count, |_| comment(&mut chance)))
        .batch()
}

/// The four suppliers of a part.
fn supplier_of(part: i64, which: i64, suppliers: i64) -> i64 {
    (part + which * (suppliers / 4 + (part - 1) / suppliers)) % suppliers + 1
}

fn partsupp(size: Size) -> Result<RecordBatch> {
    let mut chance = chance(5);
    let mut pairs = Vec::new();
    for part in 1..=size.parts {
        let mut suppliers: Vec<i64> = (0..4).map(|which| supplier_of(part, which, size.suppliers)).collect();
        suppliers.sort_unstable();
        suppliers.dedup();
        pairs.extend(suppliers.into_iter().map(|supplier| (part, supplier)));
    }
    let count = pairs.len() as i64;
    Columns::default()
        .big("ps_partkey", pairs.iter().map(|pair| pair.0))
        .big("ps_suppkey", pairs.iter().map(|pair| pair.1))
        .int("ps_availqty", many(count, |_| chance.random_range(1..10_000)))
        .money("ps_supplycost", many(count, |_| chance.random_range(100..100_000)))?
        .text("ps_comment", many(count, |_| comment(&mut chance)))
        .batch()
}

/// One line of an order.
struct Line {
    order: i64,
    number: i32,
    part: i64,
    supplier: i64,
    quantity: i64,
    price: i64,
    discount: i64,
    tax: i64,
    shipped: i32,
    committed: i32,
    received: i32,
    flag: &'static str,
}

impl Line {
    fn is_open(&self) -> bool {
        self.shipped > TODAY
    }
}

fn line(chance: &mut StdRng, size: Size, order: i64, number: i32, day: i32) -> Line {
    let part = chance.random_range(1..=size.parts);
    let supplier = supplier_of(part, chance.random_range(0..4), size.suppliers);
    // Every sixtieth order is one of Q18's large ones.
    let quantity = if order % 60 == 0 { chance.random_range(44..=50) } else { chance.random_range(1..=50) };
    let shipped = day + chance.random_range(1..=121);
    let received = shipped + chance.random_range(1..=30);
    let flag = match () {
        () if received > TODAY => "N",
        () if chance.random_bool(0.5) => "R",
        () => "A",
    };
    Line {
        order,
        number,
        part,
        supplier,
        quantity,
        price: quantity * retail_price(part),
        discount: chance.random_range(0..=10),
        tax: chance.random_range(0..=8),
        shipped,
        committed: day + chance.random_range(30..=90),
        received,
        flag,
    }
}

fn orders_and_lines(size: Size) -> Result<(RecordBatch, RecordBatch)> {
    let mut chance = chance(6);
    let mut lines: Vec<Line> = Vec::new();
    let (mut days, mut statuses, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    for order in 1..=size.orders {
        let day = FIRST_DAY + chance.random_range(0..ORDER_DAYS);
        let count = if order % 60 == 0 { 7 } else { chance.random_range(1..=7) };
        let own: Vec<Line> = (1..=count).map(|number| line(&mut chance, size, order, number, day)).collect();
        let open = own.iter().filter(|line| line.is_open()).count();
        days.push(day);
        statuses.push(match open {
            0 => "F",
            open if open == own.len() => "O",
            _ => "P",
        });
        totals.push(own.iter().map(|line| line.price * (100 + line.tax) * (100 - line.discount) / 10_000).sum::<i64>());
        lines.extend(own);
    }
    // Every third customer never orders.
    let customers = many(size.orders, |_| {
        let customer = chance.random_range(1..=size.customers);
        if customer % 3 == 0 { (customer % size.customers) + 1 } else { customer }
    });
    let orders = Columns::default()
        .big("o_orderkey", 1..=size.orders)
        .big("o_custkey", customers)
        .text("o_orderstatus", statuses)
        .money("o_totalprice", totals)?
        .day("o_orderdate", days)
        .text("o_orderpriority", many(size.orders, |_| one_of(&mut chance, &PRIORITIES)))
        .text("o_clerk", many(size.orders, |key| format!("Clerk#{:09}", key % 100)))
        .int("o_shippriority", many(size.orders, |_| 0))
        .text("o_comment", many(size.orders, |_| comment(&mut chance)))
        .batch()?;
    Ok((orders, lineitem(&mut chance, &lines)?))
}

fn lineitem(chance: &mut StdRng, lines: &[Line]) -> Result<RecordBatch> {
    let count = lines.len() as i64;
    Columns::default()
        .big("l_orderkey", lines.iter().map(|line| line.order))
        .big("l_partkey", lines.iter().map(|line| line.part))
        .big("l_suppkey", lines.iter().map(|line| line.supplier))
        .int("l_linenumber", lines.iter().map(|line| line.number))
        .money("l_quantity", lines.iter().map(|line| line.quantity * 100))?
        .money("l_extendedprice", lines.iter().map(|line| line.price))?
        .money("l_discount", lines.iter().map(|line| line.discount))?
        .money("l_tax", lines.iter().map(|line| line.tax))?
        .text("l_returnflag", lines.iter().map(|line| line.flag))
        .text("l_linestatus", lines.iter().map(|line| if line.is_open() { "O" } else { "F" }))
        .day("l_shipdate", lines.iter().map(|line| line.shipped))
        .day("l_commitdate", lines.iter().map(|line| line.committed))
        .day("l_receiptdate", lines.iter().map(|line| line.received))
        .text("l_shipinstruct", many(count, |_| one_of(chance, &SHIP_INSTRUCTIONS)))
        .text("l_shipmode", many(count, |_| one_of(chance, &SHIP_MODES)))
        .text("l_comment", many(count, |_| comment(chance)))
        .batch()
}
