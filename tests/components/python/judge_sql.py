"""DuckDB's answers to SQL that was written for Rondel.

Says its version, reads cases from standard input, a JSON object a line, and answers each with a line:

    {"sql": …, "tables": {"t0": "t0.parquet", …}, "result": "types.parquet", "answer": "answer.parquet"}

    {}                     the answer is written: its columns have the types that the columns of `result` have
    {"refused": "why"}     DuckDB can't run the statement, or not in time
    {"wrong": "why"}       its answer does not fit into columns of those types
"""

import faulthandler
import json
import re
import sys
import threading

import duckdb

# What makes DuckDB PostgreSQL.
SETTINGS = [
    # A whole number divided by another is one.
    "SET integer_division = true",
    # NULL is greater than all else.
    "SET default_null_order = 'nulls_last_on_asc_first_on_desc'",
    # A file is another one for each case.
    "SET enable_external_file_cache = false",
    # The tests beside this one want the other cores.
    "SET threads = 1",
]

# Functions that PostgreSQL has and DuckDB has not, or has otherwise.
MACROS = [
    # Its digits are capitals. A whole number that fits an INTEGER has the digits of one: in Rondel a literal is a BIGINT.
    """to_hex(number) AS lower(CASE WHEN number BETWEEN -2147483648 AND -1 THEN system.main.to_hex(number + 4294967296)
        ELSE system.main.to_hex(number) END)""",
    # Its seconds have no fraction.
    "seconds_of(moment) AS extract(microsecond FROM moment) / 1e6",
    "quote_literal(value) AS '''' || replace(value, '''', '''''') || ''''",
    r"""initcap(value) AS CASE WHEN value IS NOT NULL THEN coalesce(array_to_string(list_transform(
        regexp_extract_all(value, '[\p{L}\p{N}]+|[^\p{L}\p{N}]+'), lambda word: upper(word[1]) || lower(word[2:])), ''), '') END""",
    # The pattern is always the same.
    "to_char(moment, pattern) AS strftime(moment, '%Y-%m-%d %H:%M:%S')",
    "num_nulls(one, two, three) AS (one IS NULL)::INT + (two IS NULL)::INT + (three IS NULL)::INT",
    """width_bucket(value, low, high, number) AS CASE WHEN value < low THEN 0 WHEN value >= high THEN number + 1
        ELSE CAST(floor((value - low) / (high - low) * number) AS BIGINT) + 1 END""",
]

# The same in DuckDB's words: (pattern, what stands there, why).
WORDS = [
    (r"\bEXTRACT\(SECOND FROM ", "seconds_of(", "the seconds have a fraction"),
    (r"\bLEFT (SEMI|ANTI) JOIN\b", r"\1 JOIN", "no other side is known"),
    (r"\bmake_array\(", "list_value(", "another name"),
    (r"\barray_element\(", "list_extract(", "another name"),
    (r"\bdate_bin\(", "time_bucket(", "another name"),
    (r"\bapprox_distinct\(", "count(DISTINCT ", "a sketch of few values is exact, DuckDB's is not"),
    (r"\b(first|last)_value\((?=[^()]* ORDER BY )", r"\1(", "as aggregates they have another name"),
    (r"\) IGNORE NULLS", " IGNORE NULLS)", "it stands within the call"),
]

# No case takes longer, and the process ends when one takes twice as long.
SECONDS = 20


def connected():
    connection = duckdb.connect()
    for setting in SETTINGS:
        connection.execute(setting)
    for macro in MACROS:
        connection.execute(f"CREATE MACRO {macro}")
    return connection


def translated(sql):
    for pattern, words, _ in WORDS:
        sql = re.sub(pattern, words, sql)
    return sql


def quoted(path):
    return "'" + path.replace("'", "''") + "'"


def columns(connection, query):
    return [(row[0], row[1]) for row in connection.execute(f"DESCRIBE {query}").fetchall()]


def fitted(name, found, wanted, sql):
    """The column of the statement's answer as the type that is wanted."""
    name = '"' + name.replace('"', '""') + '"'
    decimal = re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", wanted)
    is_middle = re.search(r"\b(avg|median)\(", sql)
    if is_middle and found == "DOUBLE" and re.fullmatch(r"U?(TINY|SMALL|BIG)?INT(EGER)?", wanted):
        # A median of whole numbers has no fraction in Rondel, as it is DataFusion's.
        name = f"trunc({name})"
    if is_middle and found == "DOUBLE" and decimal:
        # Nor has an average of decimals more digits than its type has: the others are cut off.
        one = 10 ** int(decimal[1])
        name = f"trunc({name} * {one} + sign({name}) * 1e-4) / {one}"
    return f"CAST({name} AS {wanted})"


def judge(connection, case):
    connection.execute("DROP SCHEMA IF EXISTS this CASCADE; CREATE SCHEMA this; SET search_path = 'this,main'")
    for name, path in case["tables"].items():
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS FROM read_parquet({quoted(path)})")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE answer AS {translated(case['sql'])}")
    wanted = columns(connection, f"FROM read_parquet({quoted(case['result'])})")
    found = columns(connection, "FROM answer")
    if len(found) != len(wanted):
        return {"wrong": f"{len(found)} columns, not {len(wanted)}"}
    items = [f"{fitted(name, of, to, case['sql'])} AS c{n}" for n, ((name, of), (_, to)) in enumerate(zip(found, wanted))]
    try:
        connection.execute(f"COPY (SELECT {', '.join(items)} FROM answer) TO {quoted(case['answer'])} (FORMAT parquet)")
    except duckdb.DataError as error:
        return {"wrong": said(error)}
    return {}


def said(error):
    return str(error).strip().split("\n")[0]


def end_what_takes_too_long(connection, judged):
    """A case is several statements: what interrupts one may come between two of them."""
    over = judged.wait(SECONDS)
    while not over:
        connection.interrupt()
        over = judged.wait(1)


def main():
    connection = connected()
    print(duckdb.__version__, flush=True)
    for line in sys.stdin:
        is_judged = threading.Event()
        watch = threading.Thread(target=end_what_takes_too_long, args=(connection, is_judged), daemon=True)
        watch.start()
        # It needs no Python for that, which whatever does not end may be holding.
        faulthandler.dump_traceback_later(2 * SECONDS, exit=True)
        try:
            judged = judge(connection, json.loads(line))
        except duckdb.Error as error:
            judged = {"refused": said(error)}
            if isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
                # Such a connection answers nothing any more.
                connection = connected()
        finally:
            faulthandler.cancel_dump_traceback_later()
            is_judged.set()
            watch.join()
        print(json.dumps(judged), flush=True)


if __name__ == "__main__":
    main()
