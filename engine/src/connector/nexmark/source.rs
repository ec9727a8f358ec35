//! One of Nexmark's tables, read: rounds of events are dealt out to the workers.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::events::Events;
use super::table::Table;
use crate::connector::{
    PartitionState, PollState, Positions, Reporter, ScanRequest, Source, SourceBatch, SourceReader, Waker,
};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Clock;

/// Rows of a batch at most.
const BATCH_ROWS: usize = 8192;
/// How often a stream that never ends is asked for what the clock has brought.
const TICK: Duration = Duration::from_millis(10);

/// When the first event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// As the events say.
    Fixed,
    /// When the job starts.
    Now,
}

/// The source of one job.
pub(super) struct NexmarkSource {
    events: Events,
    table: Table,
    begin: Begin,
    end: Option<u64>,
    scan: ScanRequest,
    /// Where an earlier run of the job stood.
    stood: Option<Stood>,
}

impl NexmarkSource {
    pub(super) fn new(events: Events, table: Table, begin: Begin, end: Option<u64>, scan: ScanRequest) -> Self {
        Self { events, table, begin, end, scan, stood: None }
    }
}

/// One of several parts of a table: every so many rounds one is its own. As many as the job's first run had workers.
#[derive(Debug, Clone, Copy)]
struct Lane {
    number: u64,
    /// The next of its rows, from 0.
    next: u64,
}

/// Where a source stands: `start` → microseconds, and of each lane `lane/of` → its next row.
#[derive(Debug, Clone)]
struct Stood {
    begun: i64,
    lanes: Vec<Lane>,
}

const START: &str = "start";

impl Stood {
    fn read(positions: &Positions) -> Option<Self> {
        let begun = positions.0.get(START)?.parse().ok()?;
        let lanes = positions.0.iter().filter(|(name, _)| *name != START);
        let lanes: Option<Vec<(Lane, usize)>> = lanes
            .map(|(name, next)| {
                let (number, of) = name.split_once('/')?;
                Some((Lane { number: number.parse().ok()?, next: next.parse().ok()? }, of.parse().ok()?))
            })
            .collect();
        let lanes = lanes?;
        let count = lanes.len();
        lanes
            .iter()
            .all(|(_, of)| *of == count)
            .then(|| Self { begun, lanes: lanes.into_iter().map(|lane| lane.0).collect() })
    }
}

impl Source for NexmarkSource {
    fn start_at(&mut self, positions: Positions) -> Result<()> {
        let stood = Stood::read(&positions);
        self.stood = Some(stood.ok_or_else(|| Error::internal(format!("no positions of Nexmark: {positions:?}")))?);
        Ok(())
    }

    fn readers(
        mut self: Box<Self>,
        workers: usize,
        clock: Arc<dyn Clock>,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let Stood { begun, lanes } = self.stood.take().unwrap_or_else(|| Stood {
            begun: clock.now_micros(),
            lanes: (0..workers as u64).map(|number| Lane { number, next: 0 }).collect(),
        });
        if self.begin == Begin::Now {
            self.events.start_micros = begun;
        }
        let bell = match self.end {
            Some(_) => None,
            None => Some(Bell::hang()?),
        };
        let reader = |worker| NexmarkReader {
            events: self.events.clone(),
            table: self.table,
            scan: self.scan.clone(),
            lanes: lanes.iter().filter(|lane| lane.number % workers as u64 == worker).copied().collect(),
            of: lanes.len() as u64,
            end: self.end,
            clock: Arc::clone(&clock),
            begun,
            bell: bell.clone(),
        };
        Ok((0..workers as u64).map(|worker| Box::new(reader(worker)) as Box<dyn SourceReader>).collect())
    }
}

/// One worker's part: some of the lanes.
struct NexmarkReader {
    events: Events,
    table: Table,
    scan: ScanRequest,
    lanes: Vec<Lane>,
    /// How many lanes there are.
    of: u64,
    end: Option<u64>,
    clock: Arc<dyn Clock>,
    /// When the job started.
    begun: i64,
    bell: Option<Arc<Bell>>,
}

impl NexmarkReader {
    /// The number in the table of row `row` of a lane.
    fn index(&self, lane: u64, row: u64) -> u64 {
        let share = self.table.share();
        (row / share * self.of + lane) * share + row % share
    }

    /// Reads at most `most` rows of a lane; answers whether there may be more.
    fn read(&mut self, place: usize, most: usize, out: &mut Vec<SourceBatch>) -> Result<bool> {
        let (events, Lane { number, next }) = (self.events_now(), self.lanes[place]);
        let indices: Vec<u64> = (next..)
            .take(most)
            .map(|row| self.index(number, row))
            .take_while(|index| self.table.event(*index) < events)
            .collect();
        self.lanes[place].next += indices.len() as u64;
        if !indices.is_empty() {
            let rows = self.table.rows(&self.events, &indices)?;
            let rows = rows.project(&self.scan.projection)?.with_schema(Arc::clone(&self.scan.schema))?;
            let runs = vec![(number as u32, rows.num_rows())];
            out.push(SourceBatch { rows, weights: None, runs });
        }
        Ok(indices.len() == most)
    }

    /// How many events there are by now.
    fn events_now(&self) -> u64 {
        self.end.unwrap_or_else(|| self.events.events_in(self.clock.now_micros() - self.begun))
    }
}

impl SourceReader for NexmarkReader {
    fn poll(&mut self, budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState> {
        let most = (budget_rows / self.lanes.len().max(1)).clamp(1, BATCH_ROWS);
        let mut more = false;
        for place in 0..self.lanes.len() {
            more |= self.read(place, most, out)?;
        }
        Ok(match self.end {
            _ if more => PollState::More,
            Some(_) => PollState::Finished,
            None => PollState::Idle,
        })
    }

    fn partitions(&self) -> Vec<PartitionState> {
        let state = |lane: &Lane| PartitionState { partition: lane.number as u32, idle: false };
        self.lanes.iter().map(state).collect()
    }

    fn positions(&self) -> Option<Positions> {
        let of_lanes = self.lanes.iter().map(|lane| (format!("{}/{}", lane.number, self.of), lane.next.to_string()));
        Some(Positions(of_lanes.chain([(START.to_owned(), self.begun.to_string())]).collect()))
    }

    fn set_waker(&mut self, waker: Waker) {
        if let Some(bell) = &self.bell {
            bell.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
        }
    }
}

/// Wakes the readers of a stream that never ends, as long as there are any.
#[derive(Default)]
struct Bell {
    wakers: Mutex<Vec<Waker>>,
}

impl Bell {
    fn hang() -> Result<Arc<Self>> {
        let bell = Arc::new(Self::default());
        let weak = Arc::downgrade(&bell);
        thread::Builder::new().name("nexmark".to_owned()).spawn(move || ring(&weak)).map_err(|error| {
            Error::new(ErrorKind::ResourceExhausted, format!("the Nexmark source cannot start a thread: {error}"))
        })?;
        Ok(bell)
    }
}

fn ring(bell: &Weak<Bell>) {
    while let Some(bell) = bell.upgrade() {
        let wakers = bell.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        drop(bell);
        wakers.iter().for_each(|waker| waker());
        thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

    use super::*;
    use crate::time::ManualClock;

    struct Silent;
    impl Reporter for Silent {
        fn waits_for(&self, _who: &str, _what: Option<String>) {}
        fn fail(&self, _error: Error) {}
        fn skipped(&self, _who: &str, _rows: u64, _last_reason: &str) {}
    }

    fn readers(
        events: Events,
        table: Table,
        end: Option<u64>,
        workers: usize,
        clock: &ManualClock,
    ) -> Vec<Box<dyn SourceReader>> {
        let schema = table.schema();
        let projection = (0..schema.fields().len()).collect();
        let scan = ScanRequest { projection, leaves: Vec::new(), schema, bounded: false };
        let source = NexmarkSource::new(events, table, Begin::Fixed, end, scan);
        Box::new(source).readers(workers, Arc::new(clock.clone()), Arc::new(Silent)).unwrap()
    }

    /// Everything that is there now: rows as text, and how the last poll ended.
    fn drained(reader: &mut dyn SourceReader) -> (Vec<SourceBatch>, PollState) {
        let mut out = Vec::new();
        loop {
            match reader.poll(1_000, &mut out).unwrap() {
                PollState::More => {}
                state => return (out, state),
            }
        }
    }

    fn lines(batches: &[SourceBatch]) -> BTreeSet<String> {
        let rows: Vec<_> = batches.iter().map(|batch| batch.rows.clone()).collect();
        let text = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
        // Columns are as wide as their widest value.
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().filter(|line| line.starts_with('|')).skip(1).map(words).collect()
    }

    #[test]
    fn any_number_of_workers_reads_the_same_events() {
        let clock = ManualClock::at(0);
        // 123 whole rounds and 7 events: a person, three auctions, three bids.
        for (table, rows) in [(Table::Person, 124), (Table::Auction, 123 * 3 + 3), (Table::Bid, 123 * 46 + 3)] {
            let mut seen: Vec<BTreeSet<String>> = Vec::new();
            for workers in [1, 3, 200] {
                let mut of_all = BTreeSet::new();
                for reader in &mut readers(Events::new(9, 1_000), table, Some(123 * 50 + 7), workers, &clock) {
                    let (batches, state) = drained(reader.as_mut());
                    assert_eq!(state, PollState::Finished);
                    of_all.extend(lines(&batches));
                }
                assert_eq!(of_all.len(), rows, "{table:?}");
                seen.push(of_all);
            }
            assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{table:?}");
        }
    }

    #[test]
    fn a_stream_without_an_end_follows_the_clock() {
        let clock = ManualClock::at(5_000_000);
        let mut readers = readers(Events::new(1, 1_000), Table::Bid, None, 2, &clock);
        let mut rows = 0;
        for seconds in 1..=3 {
            clock.advance_micros(1_000_000);
            for reader in &mut readers {
                let (batches, state) = drained(reader.as_mut());
                assert_eq!(state, PollState::Idle);
                rows += batches.iter().map(|batch| batch.rows.num_rows()).sum::<usize>();
            }
            assert_eq!(rows, seconds * 920);
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        readers[0].set_waker(Arc::new(move || {
            let _ = sender.send(());
        }));
        receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(readers);
        // The bell is gone with its readers: its sender too.
        while receiver.recv_timeout(Duration::from_secs(30)).is_ok() {}
        assert_eq!(receiver.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    }

    #[test]
    fn disorder_stays_within_its_bound() {
        let clock = ManualClock::at(0);
        let mut events = Events::new(4, 1_000);
        let ordered = drained(readers(events.clone(), Table::Bid, Some(10_000), 1, &clock)[0].as_mut()).0;
        events.disorder_micros = 2_000_000;
        let disordered = drained(readers(events, Table::Bid, Some(10_000), 1, &clock)[0].as_mut()).0;
        let mut moved = 0;
        for (one, other) in ordered.iter().zip(&disordered) {
            assert_eq!(one.rows.column(0), other.rows.column(0), "only times differ");
            let times = |batch: &SourceBatch| batch.rows.column(5).as_primitive::<TimestampMicrosecondType>().clone();
            for (regular, early) in times(one).values().iter().zip(times(other).values()) {
                assert!((0..=2_000_000).contains(&(regular - early)));
                moved += usize::from(regular - early > 1_000_000);
            }
        }
        assert!(moved > 3_000, "{moved}");
    }

    #[test]
    fn auctions_and_bids_point_at_what_is_there() {
        let clock = ManualClock::at(0);
        let column = |table, column: usize| -> Vec<i64> {
            let batches = drained(readers(Events::new(2, 1_000), table, Some(20_000), 1, &clock)[0].as_mut()).0;
            let values =
                batches.iter().flat_map(|batch| batch.rows.column(column).as_primitive::<Int64Type>().values());
            values.copied().collect()
        };
        let persons: BTreeSet<i64> = column(Table::Person, 0).into_iter().collect();
        let auctions: BTreeSet<i64> = column(Table::Auction, 0).into_iter().collect();
        assert_eq!((persons.len(), auctions.len()), (400, 1_200));
        assert!(column(Table::Bid, 0).iter().all(|auction| auctions.contains(auction)));
        // The hot bidder of the newest hundred may not have registered yet.
        assert!(column(Table::Bid, 1).iter().filter(|bidder| !persons.contains(bidder)).count() < 20_000 / 50);
        assert!(column(Table::Auction, 7).iter().all(|seller| persons.contains(seller)));
        assert!(column(Table::Auction, 8).iter().all(|category| (10..15).contains(category)));
    }
}
