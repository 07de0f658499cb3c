//! Looks at machines that are made up: who is watched, and who is suspected first.

use super::{Ranked, Watch, rank};
use crate::model::{Course, Memory, Sighting, Trend};

const OWN: u32 = 900;

/// A history of nothing but figures.
type Figures = Vec<u64>;

fn sighting(pid: u32, parent: u32, began: u64, anonymous: u64) -> Sighting {
    Sighting { pid, began, parent, memory: Memory { anonymous, ..Memory::default() } }
}

fn look(watch: &mut Watch<Figures>, sightings: &[Sighting]) {
    watch.take(sightings, |history, memory| history.push(memory.anonymous));
}

fn seen(watch: &Watch<Figures>) -> Vec<(u32, &[u64])> {
    watch.seen().into_iter().map(|seen| (seen.sighting.pid, seen.history.as_slice())).collect()
}

#[test]
fn each_process_has_its_own_history() {
    let mut watch = Watch::new(OWN, None);
    look(&mut watch, &[sighting(1, 0, 5, 10), sighting(70, 1, 8, 20)]);
    look(&mut watch, &[sighting(70, 1, 8, 21), sighting(1, 0, 5, 11)]);
    assert_eq!(seen(&watch), [(1, &[10, 11][..]), (70, &[20, 21][..])]);
}

#[test]
fn who_gets_a_pid_anew_begins_afresh() {
    let mut watch = Watch::new(OWN, None);
    look(&mut watch, &[sighting(70, 1, 8, 20)]);
    look(&mut watch, &[sighting(70, 1, 9, 1)]);
    assert_eq!(seen(&watch), [(70, &[1][..])]);
}

#[test]
fn who_is_gone_is_forgotten_however_many_come_and_go() {
    let mut watch = Watch::new(OWN, None);
    for pid in 1000..3000 {
        look(&mut watch, &[sighting(1, 0, 5, 10), sighting(pid, 1, 8, 20)]);
        assert_eq!(watch.seen().len(), 2);
    }
    assert_eq!(seen(&watch).last(), Some(&(2999, &[20][..])));
}

#[test]
fn memprof_and_what_it_starts_are_left_out_and_what_started_it_is_not() {
    let mut watch = Watch::new(OWN, None);
    let sightings = [(1, 0), (800, 1), (OWN, 800), (901, OWN), (902, 901), (950, 800)];
    look(&mut watch, &sightings.map(|(pid, parent)| sighting(pid, parent, 5, 10)));
    let pids: Vec<_> = seen(&watch).into_iter().map(|(pid, _)| pid).collect();
    assert_eq!(pids, [1, 800, 950]);
}

#[test]
fn with_a_parent_only_its_descendants_are_watched_also_when_orphaned() {
    let mut watch = Watch::new(OWN, Some(70));
    let first = [(1, 0), (70, 1), (71, 70), (72, 71), (80, 1), (OWN, 70)];
    look(&mut watch, &first.map(|(pid, parent)| sighting(pid, parent, 5, 10)));
    // 71 is gone, so 72 is init's. Another process of init's is not let in, nor is 71's successor.
    let second = [(1, 0, 5), (70, 1, 5), (72, 1, 5), (81, 1, 9), (71, 1, 9)];
    look(&mut watch, &second.map(|(pid, parent, began)| sighting(pid, parent, began, 11)));
    assert_eq!(seen(&watch), [(70, &[10, 11][..]), (72, &[10, 11][..])]);
}

#[test]
fn parents_in_a_ring_are_nobodys() {
    let mut watch = Watch::new(OWN, Some(70));
    look(&mut watch, &[sighting(2, 3, 5, 10), sighting(3, 2, 5, 10), sighting(70, 70, 5, 1)]);
    assert_eq!(seen(&watch), [(70, &[1][..])]);
}

fn trend(course: Course, bytes_per_second: f64, rise: u64) -> Trend {
    Trend { course, bytes_per_second, highest: 1000 + rise, lowest: 1000, ..Trend::NONE }
}

#[test]
fn the_fastest_comes_first_and_what_does_not_grow_is_no_suspect() {
    let mebibyte = 1 << 20;
    let processes = vec![
        (1, trend(Course::Level, 0.0, mebibyte)),
        (2, trend(Course::Grows, 10.0, 300)),
        (3, trend(Course::Plateaued, 0.0, 5 * mebibyte)),
        (4, trend(Course::Grows, 1e6, 30 * mebibyte)),
        (5, trend(Course::Churn, 0.0, 50 * mebibyte)),
        (6, trend(Course::Grows, 500.0, 20_000)),
        (7, trend(Course::TooShort, 0.0, 4096)),
        (8, trend(Course::Shrinks, -1e6, 30 * mebibyte)),
        (9, trend(Course::OneOff, 0.0, 7 * mebibyte)),
    ];
    let ranked = |most| {
        let Ranked { growing, suspects, others } = rank(processes.clone(), |(_, trend)| *trend, most);
        let numbers = |list: Vec<(u32, Trend)>| list.into_iter().map(|(number, _)| number).collect::<Vec<_>>();
        (growing, numbers(suspects), numbers(others))
    };
    assert_eq!(ranked(8), (3, vec![4, 6, 2], vec![5, 9, 3]));
    assert_eq!(ranked(1), (3, vec![4], vec![6]));
    assert_eq!(ranked(2), (3, vec![4, 6], vec![2, 5]));
}
