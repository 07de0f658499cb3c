//! Who takes reports: what writes them, or a terminal that shows them.

use super::{
    Options,
    output::{Outputs, Reader},
    top::Top,
};
use crate::{
    model::{Frame, Growth, Report, Selection},
    tui::Wish,
};

pub(super) enum Sink {
    Outputs(Outputs),
    Top(Box<Top>),
}

impl Sink {
    /// As it was asked for.
    pub(super) fn open(options: &Options) -> anyhow::Result<Self> {
        if options.is_live {
            return Ok(Self::Top(Box::new(Top::open(&options.selection)?)));
        }
        Ok(Self::Outputs(Outputs::open(&options.outputs)?))
    }

    /// What the next report is to have in it.
    pub(super) fn selection(&self, asked: &Selection) -> Selection {
        match self {
            Self::Outputs(outputs) => outputs.selection(asked),
            Self::Top(top) => top.selection(asked),
        }
    }

    /// Whether reports are to be whole, and what is shown of them is decided when they are taken.
    pub(super) fn wants_whole_reports(&self) -> bool {
        match self {
            Self::Outputs(outputs) => outputs.want_whole_reports(),
            Self::Top(_) => false,
        }
    }

    /// Takes a report.
    pub(super) fn take(&mut self, report: Report) -> anyhow::Result<Reader> {
        match self {
            Self::Outputs(outputs) => outputs.write(&report),
            Self::Top(top) => top.show(report).map(|()| Reader::Present),
        }
    }

    /// Takes a report of growth, which nothing shows live.
    pub(super) fn take_growth(&mut self, report: &Growth<Frame>) -> anyhow::Result<Reader> {
        match self {
            Self::Outputs(outputs) => outputs.write_growth(report),
            Self::Top(_) => Ok(Reader::Present),
        }
    }

    /// Writes what was kept until the end.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Outputs(outputs) => outputs.finish(),
            Self::Top(_) => Ok(()),
        }
    }

    /// Waits until somebody who looks at reports wants something.
    pub(super) async fn wish(&mut self) -> anyhow::Result<Wish> {
        match self {
            Self::Outputs(_) => std::future::pending().await,
            Self::Top(top) => top.wish().await,
        }
    }
}
