//! How questions and answers are put between memprof and the process that reads files for it: one question, one answer.
//!
//! A question is 16 bytes, with the file's descriptor beside it when the file is new: the file's number, flags, and a place. An
//! answer is the length of what follows, and JSON.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use crate::symbols::debug_info::{Answer, Place, Question};

const QUESTION_BYTES: usize = 16;

const DEBUG_INFORMATION: u32 = 1;
const BY_ADDRESS: u32 = 2;

/// Names are cut long before.
const MOST_ANSWER_BYTES: u32 = 16 << 20;

/// Sends a question about the file of that number, which goes with it unless it is known.
pub(super) fn send_question(
    socket: &UnixStream,
    number: u32,
    question: Question,
    file: Option<&File>,
) -> io::Result<()> {
    let (by_address, place) = match question.place {
        Place::Offset(offset) => (0, offset),
        Place::Address(address) => (BY_ADDRESS, address),
    };
    let flags = by_address | if question.debug_information { DEBUG_INFORMATION } else { 0 };
    let mut bytes = [0; QUESTION_BYTES];
    bytes[..4].copy_from_slice(&number.to_ne_bytes());
    bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8..].copy_from_slice(&place.to_ne_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = file.map(|file| [file.as_fd()]);
    if let Some(descriptors) = &descriptors {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one; nothing when nobody asks any more.
pub(super) fn receive_question(socket: &UnixStream) -> io::Result<Option<(u32, Question, Option<File>)>> {
    let mut bytes = [0; QUESTION_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL)?;
    match received.bytes {
        0 => return Ok(None),
        QUESTION_BYTES => {}
        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let word = |start: usize| u32::from_ne_bytes([bytes[start], bytes[start + 1], bytes[start + 2], bytes[start + 3]]);
    let (number, flags) = (word(0), word(4));
    let mut place = [0; 8];
    place.copy_from_slice(&bytes[8..]);
    let place = u64::from_ne_bytes(place);
    let place = if flags & BY_ADDRESS != 0 { Place::Address(place) } else { Place::Offset(place) };
    let question = Question { place, debug_information: flags & DEBUG_INFORMATION != 0 };
    Ok(Some((number, question, descriptor.map(|descriptor: OwnedFd| File::from(descriptor)))))
}

/// Sends an answer.
pub(super) fn send_answer(socket: &mut UnixStream, answer: Option<&Answer>) -> io::Result<()> {
    let json = serde_json::to_vec(&answer)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= MOST_ANSWER_BYTES);
    socket.write_all(&length.ok_or(io::ErrorKind::InvalidData)?.to_ne_bytes())?;
    socket.write_all(&json)
}

/// Receives one.
pub(super) fn receive_answer(socket: &mut UnixStream) -> io::Result<Option<Answer>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_ne_bytes(length);
    if length > MOST_ANSWER_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length as usize];
    socket.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::io::Seek as _;

    use super::*;
    use crate::{model::Source, symbols::debug_info::Named};

    #[test]
    fn questions_arrive_with_their_files_and_answers_whole() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        file.rewind().unwrap();
        let questions = [
            (7, Question { place: Place::Offset(u64::MAX), debug_information: true }),
            (8, Question { place: Place::Address(1), debug_information: false }),
        ];
        send_question(&here, questions[0].0, questions[0].1, Some(&file)).unwrap();
        send_question(&here, questions[1].0, questions[1].1, None).unwrap();
        let (number, question, received) = receive_question(&there).unwrap().unwrap();
        assert_eq!((number, question), questions[0]);
        let mut content = String::new();
        received.unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        let (number, question, received) = receive_question(&there).unwrap().unwrap();
        assert_eq!(((number, question), received.is_none()), (questions[1], true));
        let source = Source { directory: None, file: "a.c".into(), line: Some(3) };
        let named = Named { function: Some("f\u{1b}".into()), source: Some(source), inlined: false };
        for answer in [None, Some(Answer { symbol: ("f".into(), 9), functions: vec![named] })] {
            send_answer(&mut there, answer.as_ref()).unwrap();
            assert_eq!(receive_answer(&mut here).unwrap(), answer);
        }
        drop(here);
        assert!(receive_question(&there).unwrap().is_none());
    }
}
