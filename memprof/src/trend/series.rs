//! A history in bounded memory.

use super::course;
use crate::model::{Timestamp, Trend};

/// A number of bytes at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When.
    pub time: Timestamp,
    /// How many.
    pub bytes: u64,
}

/// What a number of bytes was, from the first look at it to the last, in a bounded number of points.
///
/// When there is no room, every second point goes, and from then on points are taken half as often. The first and the
/// last look are always in it. So it covers all of the time, however long that is, at an even resolution.
///
/// Look at irregular intervals: at regular ones, something that goes up and down nearly as often seems to do so slowly.
#[derive(Clone, Debug)]
pub struct Series {
    points: Vec<Point>,
    most: usize,
    /// How many looks make a point.
    stride: u32,
    /// Looks since the last point but one.
    looks: u32,
}

impl Default for Series {
    fn default() -> Self {
        Self::new()
    }
}

impl Series {
    /// How many points there are at most, if nothing else is said.
    pub const MOST: usize = 64;

    /// An empty history of at most [`Self::MOST`] points.
    pub fn new() -> Self {
        Self::of_at_most(Self::MOST)
    }

    /// An empty history of at most so many points: 16 or more.
    pub fn of_at_most(most: usize) -> Self {
        Self { points: Vec::new(), most: most.max(16), stride: 1, looks: 0 }
    }

    /// Takes in a look. What is not later than the last one is ignored.
    pub fn push(&mut self, time: Timestamp, bytes: u64) {
        if self.points.last().is_some_and(|last| last.time.0 >= time.0) {
            return;
        }
        let point = Point { time, bytes };
        if self.looks >= self.stride && self.points.len() == self.most {
            self.thin();
        }
        // The last look is a point of its own, until a later one takes its place.
        match self.points.last_mut() {
            Some(last) if self.looks < self.stride => {
                *last = point;
                self.looks += 1;
            }
            last => {
                // The first stays, and nothing takes its place.
                self.looks = if last.is_some() { 1 } else { self.stride };
                self.points.push(point);
            }
        }
    }

    /// The points, in their order.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// How many looks the next point takes.
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// Whether it was zero at all points of its second half: nothing that is worth keeping.
    pub fn is_over(&self) -> bool {
        let half = &self.points[self.points.len() / 2..];
        half.len() > 1 && half.iter().all(|point| point.bytes == 0)
    }

    /// What it comes to.
    pub fn trend(&self) -> Trend {
        course::read(&self.points)
    }

    /// Lets every second point go, but for the last, which stands for the latest look.
    fn thin(&mut self) {
        let last = self.points.len() - 1;
        let mut place = 0;
        self.points.retain(|_| {
            let stays = usize::is_multiple_of(place, 2) || place == last;
            place += 1;
            stays
        });
        self.looks = if last.is_multiple_of(2) { self.stride * 2 } else { self.stride };
        self.stride *= 2;
    }
}
