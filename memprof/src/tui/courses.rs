//! Courses in one word.

use super::{paint, table::Cell};
use crate::model::Course;

/// In which order they stand: what grows comes first.
pub(super) fn rank(course: Course) -> u8 {
    match course {
        Course::Grows => 0,
        Course::Churn => 1,
        Course::TooShort => 2,
        Course::OneOff => 3,
        Course::Plateaued => 4,
        Course::Level => 5,
        Course::Shrinks => 6,
    }
}

pub(super) fn cell(course: Course) -> Cell {
    let word = match course {
        Course::Grows => "growing",
        Course::Plateaued => "plateaued",
        Course::OneOff => "one-off",
        Course::Churn => "churn",
        Course::Level => "level",
        Course::Shrinks => "shrinking",
        Course::TooShort => "too early",
    };
    Cell { text: word.to_owned(), style: paint::of_course(course) }
}
