//! The soak: random traffic, and reports of it that are compared with what it knows itself to have done.
#![allow(unreachable_pub, missing_docs, reason = "this is no interface")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]
#![allow(clippy::cast_precision_loss, reason = "what is compared is far coarser")]

mod comparison;
mod footprint;
mod rounds;
mod truth;

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

pub use self::rounds::{MODES, Round, compile};
use self::{comparison::Comparison, footprint::Footprints, rounds::Mode, truth::Truth};
use crate::support::{Attached, Program, Report, Target, attach};

/// A third of a round, but no more than this, is for memprof to become as large as it gets.
const WARM_UP: Duration = Duration::from_secs(60);

/// Reports are compared at least so often, however slow all is.
const LEAST_REPORTS: u32 = 3;

/// From one comparison to the next, the traffic runs for a random time: at most this, but half of what is left of a round; or, however
/// late it is, one second.
const LONGEST_RUN: Duration = Duration::from_secs(10);
const LATE_RUN: Duration = Duration::from_secs(1);

/// Of what observing all costs, so much is allowed: that takes windows, and is more than twice what frees alone cost. Both are measured, each
/// by a memprof of its own, and a busy machine has been seen to put one of them at nearly twice the other's measure.
const SHARE_OF_COST: f64 = 0.8;

/// For the last comparisons, and for memprof to leave.
const TIME_TO_END: Duration = Duration::from_secs(4);

impl Round {
    /// Has the traffic run until about this moment; tells what came of it.
    pub fn run(mut self, traffic: &Program, deadline: Instant) -> String {
        let start = Instant::now();
        let mut target = self.start(traffic);
        if self.mode == Mode::Windows {
            let limit = self.cost_of_all(&mut target) * SHARE_OF_COST;
            self.options.extend(["--max-overhead".into(), format!("{limit:.3}%")]);
        }
        let options: Vec<_> = self.options.iter().map(String::as_str).collect();
        let mut memprof = attach(target.pid(), &options);
        memprof.ready();
        let deadline = deadline.checked_sub(TIME_TO_END).unwrap_or(start);
        let warm = start + (deadline.saturating_duration_since(start) / 3).min(WARM_UP);
        let (mut comparison, mut footprints) = (Comparison::default(), Footprints::default());
        let mut reports = 0;
        while reports < LEAST_REPORTS || Instant::now() < deadline {
            target.tell("go");
            let left = deadline.saturating_duration_since(Instant::now());
            let longest = (left / 2).min(LONGEST_RUN).max(LATE_RUN).as_millis() as u64;
            std::thread::sleep(Duration::from_millis(self.random.within(longest / 10..longest)));
            target.tell("pause");
            let (truth, report, during) = hear_both(&mut target, &mut memprof);
            comparison.check(&self, target.pid(), &report, &truth, &during);
            reports += 1;
            if Instant::now() >= warm {
                footprints.take(memprof.pid());
            }
        }
        target.tell("end");
        let (truth, report, during) = hear_both(&mut target, &mut memprof);
        assert!(truth.held().is_nothing());
        comparison.check(&self, target.pid(), &report, &truth, &during);
        footprints.check(self.copies_kib());
        let last = self.end(&mut target, memprof);
        comparison.check(&self, target.pid(), &last, &truth, &(during.start..monotonic()));
        let lost = &last.0["lost"]["causes"];
        let seconds = start.elapsed().as_secs();
        let allocations = truth.allocated().blocks;
        format!("{reports} reports in {seconds} s, {allocations} allocations, {footprints}; lost {lost}")
    }

    /// The last report: when the traffic ends, or when memprof is asked to.
    fn end(&self, target: &mut Target, memprof: Attached) -> Report {
        let run = if self.ends_with_traffic {
            target.tell("exit");
            memprof.wait()
        } else {
            memprof.interrupt()
        };
        assert!(run.status.success(), "{:?}", run.status);
        run.last().clone()
    }

    /// What observing all of the traffic costs, in percent.
    fn cost_of_all(&self, target: &mut Target) -> f64 {
        let mut memprof = attach(target.pid(), &["--interval", "1s"]);
        memprof.ready();
        target.tell("go");
        (0..4).for_each(|_| drop(memprof.next_report()));
        target.tell("pause");
        Truth::hear(target);
        let run = memprof.interrupt();
        run.last().process_of(target.pid()).0["overhead"]["percent"].as_f64().unwrap()
    }
}

/// What the traffic says while it rests, and a report of then.
fn hear_both(target: &mut Target, memprof: &mut Attached) -> (Truth, Report, Range<f64>) {
    let truth = Truth::hear(target);
    let asked = monotonic();
    memprof.signal("USR1");
    let report = memprof.next_report();
    (truth, report, asked..monotonic())
}

/// Seconds of the clock that the traffic goes by, too.
fn monotonic() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
