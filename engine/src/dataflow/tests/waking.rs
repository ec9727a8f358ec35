//! Sources that have more to read when nobody looks.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::connector::{PartitionState, PollState, Reporter, Source, SourceBatch, SourceReader, Waker};
use crate::time::Clock;

/// A reader whose first poll takes as long as the test wants.
struct Slow {
    go: Receiver<PollState>,
    polled: Sender<usize>,
    polls: usize,
}

impl SourceReader for Slow {
    fn poll(&mut self, _budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState> {
        self.polls += 1;
        self.polled.send(self.polls).unwrap();
        if self.polls > 1 {
            return Ok(PollState::Idle);
        }
        let state = self.go.recv_timeout(PATIENCE).unwrap();
        out.push(SourceBatch { rows: batch(&[(1, 1, 0)]), weights: None, runs: vec![(0, 1)] });
        Ok(state)
    }

    fn partitions(&self) -> Vec<PartitionState> {
        Vec::new()
    }

    fn set_waker(&mut self, _waker: Waker) {}
}

struct SlowSource(Vec<Slow>);

impl Source for SlowSource {
    fn readers(
        self: Box<Self>,
        workers: usize,
        _clock: Arc<dyn Clock>,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        assert_eq!(workers, self.0.len());
        Ok(self.0.into_iter().map(|reader| Box::new(reader) as Box<dyn SourceReader>).collect())
    }
}

/// The epoch is closed while both readers are busy, and one of them has told of its rows already when the other finds that it
/// has more: it is read on, though nothing wakes it from outside.
#[test]
fn a_reader_with_more_is_read_on_though_its_epoch_was_closed_meanwhile() {
    let (mut readers, mut gos, mut polls) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..2 {
        let ((go, await_go), (polled, await_poll)) = (channel(), channel());
        readers.push(Slow { go: await_go, polled, polls: 0 });
        gos.push(go);
        polls.push(await_poll);
    }
    let pool = threads(2, &TestOperators::new());
    let plan = PlanBuilder::new().stream("s").then("pass");
    let mut builder = JobBuilder::new(1, plan, Target::View(view(false)));
    builder.blueprint.sources.insert(0, Box::new(SlowSource(readers)));
    let (job, _) = builder.create(&pool).unwrap();
    polls.iter().for_each(|poll| assert_eq!(poll.recv_timeout(PATIENCE), Ok(1)));
    // Longer than any epoch is open.
    let pause = || std::thread::sleep(Duration::from_millis(300));
    pause();
    gos[0].send(PollState::Idle).unwrap();
    pause();
    gos[1].send(PollState::More).unwrap();
    assert_eq!(polls[1].recv_timeout(PATIENCE), Ok(2), "nobody reads the rest");
    pool.drop_job(job.id()).unwrap();
}
