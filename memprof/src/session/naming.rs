//! Frames are named beside the recording: to read debug information may take seconds, in which the kernel side's rings would fill.

use std::{collections::HashMap, io, sync::Arc, thread::JoinHandle};

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};

use super::Session;
use crate::{
    model::{Frame, Object, ObjectId, ProfileFrame},
    symbols::Symbolizer,
};

/// Stacks to be named, with the objects that they run through.
struct Request {
    stacks: Vec<Vec<ProfileFrame>>,
    objects: HashMap<ObjectId, Arc<Object>>,
    named: oneshot::Sender<Vec<Vec<Frame>>>,
}

/// A thread that names stacks, with the process that reads files for it. Both end with this.
pub(super) struct Naming {
    requests: Option<mpsc::UnboundedSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Naming {
    /// To be called when this thread has no more privileges than are needed from then on: the new one has the same.
    pub(super) fn start() -> io::Result<Self> {
        let (requests, received) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name("naming".into()).spawn(|| serve(received))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    async fn name(
        &self,
        stacks: Vec<Vec<ProfileFrame>>,
        objects: HashMap<ObjectId, Arc<Object>>,
    ) -> anyhow::Result<Vec<Vec<Frame>>> {
        let (named, answer) = oneshot::channel();
        if let Some(requests) = &self.requests {
            // If nobody takes it, nobody answers.
            let _ = requests.send(Request { stacks, objects, named });
        }
        answer.await.context("the thread that names stacks has ended")
    }
}

impl Drop for Naming {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut requests: mpsc::UnboundedReceiver<Request>) {
    let mut symbolizer = Symbolizer::apart();
    while let Some(Request { stacks, objects, named }) = requests.blocking_recv() {
        let name = |frames| symbolizer.name(frames, |id| objects.get(&id).cloned());
        // Nobody may want it any more.
        let _ = named.send(stacks.into_iter().map(name).collect());
    }
}

impl Session<'_> {
    /// Has stacks named, and records meanwhile.
    pub(super) async fn name_stacks(&mut self, stacks: Vec<Vec<ProfileFrame>>) -> anyhow::Result<Vec<Vec<Frame>>> {
        let Self { naming, recorder, .. } = self;
        let places = stacks.iter().flatten().filter_map(|frame| frame.raw.place);
        let objects = places.filter_map(|(id, _)| Some((id, Arc::clone(recorder.objects().get(id)?)))).collect();
        let named = naming.name(stacks, objects);
        tokio::pin!(named);
        loop {
            let wakes = recorder.wakes_in();
            tokio::select! {
                named = &mut named => return named,
                ready = recorder.ready() => {
                    ready.context("epoll")?;
                    recorder.drain()?;
                }
                () = tokio::time::sleep(wakes) => recorder.govern()?,
            }
        }
    }
}
