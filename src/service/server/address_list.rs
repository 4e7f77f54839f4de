//! Clients that send a list of addresses as `:authority`.
//!
//! A client of the C library of gRPC (C++, Python, Ruby, PHP) that was given the target `ipv4:10.0.0.1:1,10.0.0.2:1`
//! sends `10.0.0.1:1,10.0.0.2:1` as `:authority`. h2 resets such calls with PROTOCOL_ERROR and has no setting to accept
//! them.
//!
//! What flows in: the bytes that a connection reads, decrypted. What flows out: as many bytes, with a valid authority in
//! place of a list. Follows the frames of HTTP/2 (RFC 9113, section 4) and holds a header block back until it is
//! complete. Such a client sends the list with its first call, so the bytes pass unseen once the first header block of a
//! connection has none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::header_block::replace_lists;
use super::reading::Reader;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Maximum size of a header block with its frames, in bytes: twice that of the headers that the server accepts.
const MAX_BLOCK_BYTES: usize = 32 << 10;
/// Size of the header of a frame, in bytes.
const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// Flags of HEADERS; CONTINUATION has the first.
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Size of the priority in HEADERS, in bytes.
const PRIORITY_BYTES: usize = 5;

/// Replaces lists of addresses as they are read.
pub(super) struct AddressLists(Replacer);

impl AddressLists {
    pub(super) fn new() -> Self {
        Self(Replacer::new())
    }
}

impl Reader for AddressLists {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self(replacer) = self;
        let before = buffer.filled().len();
        // Without room, a read looks like the end of the stream.
        while replacer.take(buffer) == 0 && buffer.remaining() > 0 {
            ready!(Pin::new(&mut *stream).poll_read(context, buffer))?;
            if replacer.is_done() {
                break;
            }
            match &buffer.filled()[before..] {
                [] => replacer.end(),
                read => replacer.push(read),
            }
            buffer.set_filled(before);
        }
        Poll::Ready(Ok(()))
    }
}

/// What the next bytes are.
#[derive(PartialEq, Eq)]
enum Part {
    Preface,
    Head,
    /// The rest of a frame that is no header block.
    Payload(usize),
    /// HEADERS, whose frames up to this length are complete.
    Block(usize),
    /// Not looked at.
    Rest,
}

/// Replaces the lists of addresses in the bytes of one connection.
struct Replacer {
    next: Part,
    has_list: bool,
    /// Bytes that were read and not yet taken.
    held: BytesMut,
    /// How many of `held` can be taken.
    ready: usize,
}

impl Replacer {
    fn new() -> Self {
        Self { next: Part::Preface, has_list: false, held: BytesMut::new(), ready: 0 }
    }

    /// Whether no further byte is looked at.
    fn is_done(&self) -> bool {
        self.next == Part::Rest
    }

    /// Adds bytes that were read.
    fn push(&mut self, read: &[u8]) {
        self.held.extend_from_slice(read);
        while let Some((len, next)) = self.part() {
            self.ready += len;
            self.next = next;
        }
        if self.is_done() {
            self.ready = self.held.len();
        }
    }

    /// Nothing more will be read.
    fn end(&mut self) {
        self.next = Part::Rest;
        self.ready = self.held.len();
    }

    /// Moves as many bytes as are ready, and for which there is room. Returns their number.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        let len = self.ready.min(buffer.remaining());
        buffer.put_slice(&self.held[..len]);
        self.held.advance(len);
        self.ready -= len;
        if self.is_done() && self.held.is_empty() {
            self.held = BytesMut::new();
        }
        len
    }

    /// Looks at the next part. Returns how many bytes become ready, and what follows. `None` if more bytes are needed, or
    /// none is looked at.
    fn part(&mut self) -> Option<(usize, Part)> {
        let rest = &mut self.held[self.ready..];
        match self.next {
            Part::Preface if rest.starts_with(PREFACE) => Some((PREFACE.len(), Part::Head)),
            Part::Preface if PREFACE.starts_with(rest) => None,
            // HTTP/1, or no HTTP.
            Part::Preface => Some((0, Part::Rest)),
            Part::Head => match Head::read(rest)? {
                Head { kind: HEADERS, .. } => Some((0, Part::Block(0))),
                head => Some((HEAD_BYTES, Part::Payload(head.len))),
            },
            Part::Payload(0) => Some((0, Part::Head)),
            Part::Payload(_) if rest.is_empty() => None,
            Part::Payload(len) => {
                let read = len.min(rest.len());
                Some((read, Part::Payload(len - read)))
            }
            Part::Block(complete) => {
                let head = Head::read(&rest[complete..])?;
                let end = complete + HEAD_BYTES + head.len;
                let is_expected = complete == 0 || head.kind == CONTINUATION;
                if !is_expected || end > MAX_BLOCK_BYTES {
                    return Some((0, Part::Rest));
                }
                let block = rest.get_mut(..end)?;
                if head.flags & END_HEADERS == 0 {
                    return Some((0, Part::Block(end)));
                }
                // The client repeats the list when it has left the dynamic table.
                self.has_list |= replace_in_frames(block).unwrap_or_default();
                Some((end, if self.has_list { Part::Head } else { Part::Rest }))
            }
            Part::Rest => None,
        }
    }
}

/// The header of a frame.
struct Head {
    /// Of the payload, in bytes.
    len: usize,
    kind: u8,
    flags: u8,
}

impl Head {
    /// Reads the header at the beginning of these bytes, if it is complete.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, _stream @ ..] = *bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Self { len: u32::from_be_bytes([0, high, middle, low]) as usize, kind, flags })
    }
}

/// Replaces the lists in one HEADERS and the CONTINUATIONs after it. Returns whether there was one; `None` if the padding
/// or the priority does not fit.
fn replace_in_frames(frames: &mut [u8]) -> Option<bool> {
    let mut positions = Vec::new();
    let mut at = 0;
    while let Some(head) = Head::read(&frames[at..]) {
        let mut fragment = at + HEAD_BYTES..at + HEAD_BYTES + head.len;
        at = fragment.end;
        if head.kind == HEADERS {
            if head.flags & PADDED != 0 {
                let padding = usize::from(*frames[fragment.clone()].first()?);
                fragment = fragment.start + 1..fragment.end.checked_sub(padding)?;
            }
            if head.flags & PRIORITY != 0 {
                fragment.start += PRIORITY_BYTES;
            }
            frames.get(fragment.clone())?;
        }
        positions.extend(fragment);
    }
    let mut block: Vec<u8> = positions.iter().map(|position| frames[*position]).collect();
    let has_list = replace_lists(&mut block);
    positions.into_iter().zip(block).for_each(|(position, byte)| frames[position] = byte);
    Some(has_list)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::service::server::reading::Reading;

    const LIST: &[u8] = b"10.0.0.1:50051,10.0.0.2:50051";
    const REPLACED: &[u8] = b"10-0-0-1-50051-10-0-0-2-50051";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = &(payload.len() as u32).to_be_bytes()[1..];
        [len, &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// The header block of a first call.
    fn block(authority: &[u8]) -> Vec<u8> {
        let name = b"@\x0a:authority".as_slice();
        let path = b"@\x05:path\x1e/shortlist.v1.Retrieval/Search".as_slice();
        [path, name, &[authority.len() as u8], authority, b"\x83\x86"].concat()
    }

    /// A header block in frames: padded or not, with a priority or not, and cut into this many frames.
    fn call(block: &[u8], is_padded: bool, has_priority: bool, frames: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let size = block.len().div_ceil(frames);
        for (number, fragment) in block.chunks(size).enumerate() {
            let end = if (number + 1) * size >= block.len() { END_HEADERS } else { 0 };
            if number > 0 {
                bytes.extend(frame(CONTINUATION, end, fragment));
                continue;
            }
            let mut flags = end;
            let mut payload = fragment.to_vec();
            if has_priority {
                flags |= PRIORITY;
                payload.splice(0..0, [0, 0, 0, 0, 16]);
            }
            if is_padded {
                flags |= PADDED;
                payload.insert(0, 7);
                payload.extend([0; 7]);
            }
            bytes.extend(frame(HEADERS, flags, &payload));
        }
        bytes
    }

    /// The bytes of a connection before its first call, as the C library of gRPC sends them.
    fn beginning() -> Vec<u8> {
        let settings = frame(4, 0, b"\x00\x02\x00\x00\x00\x00\xfe\x03\x00\x00\x00\x01");
        [PREFACE, &settings, &frame(8, 0, b"\x00\x3f\x00\x01"), &frame(4, 1, b"")].concat()
    }

    /// A stream that delivers these parts, one per read.
    struct Parts(VecDeque<Vec<u8>>);

    impl AsyncRead for Parts {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut part) = self.0.pop_front() {
                let rest = part.split_off(part.len().min(buffer.remaining()));
                buffer.put_slice(&part);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    /// What comes out if `bytes` arrive in parts of at most these sizes in turn, and are read into `room` bytes.
    fn replaced_in_parts(mut bytes: &[u8], sizes: &[usize], room: usize) -> Vec<u8> {
        let mut parts = VecDeque::new();
        for size in sizes.iter().cycle() {
            let Some((part, rest)) = bytes.split_at_checked(*size).filter(|(_, rest)| !rest.is_empty())
            else {
                break;
            };
            parts.push_back(part.to_vec());
            bytes = rest;
        }
        parts.push_back(bytes.to_vec());
        let mut stream = Reading::new(Parts(parts), AddressLists::new());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut out = Vec::new();
            let mut buffer = vec![0; room];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => return out,
                    len => out.extend_from_slice(&buffer[..len]),
                }
            }
        })
    }

    fn replaced(bytes: &[u8]) -> Vec<u8> {
        replaced_in_parts(bytes, &[usize::MAX], 1 << 20)
    }

    #[test]
    fn lists_are_replaced_in_padded_and_divided_blocks() {
        for (is_padded, has_priority, frames) in
            [(false, false, 1), (true, false, 1), (false, true, 1), (true, true, 1), (true, true, 40)]
        {
            let connection = |authority: &[u8]| {
                let call = call(&block(authority), is_padded, has_priority, frames);
                [beginning(), call, frame(0, 1, b"message")].concat()
            };
            assert_eq!(
                replaced(&connection(LIST)),
                connection(REPLACED),
                "{is_padded} {has_priority} {frames}"
            );
        }
    }

    #[test]
    fn a_list_that_comes_again_is_replaced() {
        let connection = |authority: &[u8]| {
            let first = call(&block(authority), false, false, 1);
            let by_index = call(b"\xc4\xbe\x83\x86", false, false, 1);
            let message = frame(0, 1, &block(LIST));
            [beginning(), first.clone(), by_index, message, first].concat()
        };
        assert_eq!(replaced(&connection(LIST)), connection(REPLACED));
    }

    #[test]
    fn other_connections_pass_unchanged() {
        let call = |authority: &[u8]| call(&block(authority), false, false, 1);
        let large = [vec![0; MAX_BLOCK_BYTES], block(LIST)].concat();
        for bytes in [
            Vec::new(),
            b"PRI * HTTP/2.0\r\n\r\n".to_vec(),
            b"GET /metrics HTTP/1.1\r\nhost: 10.0.0.1:1,10.0.0.2:1\r\n\r\n".to_vec(),
            // No preface.
            call(LIST),
            // The first call has no list.
            [beginning(), call(b"localhost:1"), call(LIST)].concat(),
            // Another frame between those of a block.
            [beginning(), frame(HEADERS, 0, b""), frame(0, 0, b""), frame(CONTINUATION, 4, &block(LIST))]
                .concat(),
            // Longer than what is held back.
            [beginning(), frame(HEADERS, END_HEADERS, &large)].concat(),
            [beginning(), frame(HEADERS, 0, &block(LIST)), frame(CONTINUATION, END_HEADERS, &large)].concat(),
            // More padding than payload, no padding, no priority.
            [beginning(), frame(HEADERS, END_HEADERS | PADDED, &[&[200], &block(LIST)[..]].concat())]
                .concat(),
            [beginning(), frame(HEADERS, END_HEADERS | PADDED, b"")].concat(),
            [beginning(), frame(HEADERS, END_HEADERS | PRIORITY, b"\0\0\0\0")].concat(),
            // No end.
            [beginning(), call(LIST)[..60].to_vec()].concat(),
        ] {
            assert_eq!(replaced(&bytes), bytes, "{:x?}", &bytes[..bytes.len().min(200)]);
        }
    }

    #[test]
    fn no_more_is_held_back_than_one_block() {
        let mut replacer = Replacer::new();
        replacer.push(&beginning());
        // Frames without content, which h2 counts.
        let mut bytes = frame(HEADERS, 0, b"");
        while !replacer.is_done() {
            assert!(replacer.held.len() - replacer.ready <= MAX_BLOCK_BYTES + HEAD_BYTES);
            replacer.push(&bytes);
            bytes = frame(CONTINUATION, 0, b"");
        }
        let mut replacer = Replacer::new();
        replacer.push(&[beginning(), vec![0xff, 0xff, 0xff, HEADERS, 0, 0, 0, 0, 1]].concat());
        assert!(replacer.is_done() && replacer.ready == replacer.held.len());
    }

    /// Frames of calls, with and without lists.
    fn calls() -> impl Strategy<Value = Vec<u8>> {
        let authority = prop_oneof![Just(LIST.to_vec()), Just(b"localhost:50051".to_vec())];
        let call = (authority, any::<bool>(), any::<bool>(), 1..5_usize).prop_map(
            |(authority, padded, priority, frames)| call(&block(&authority), padded, priority, frames),
        );
        let other = (prop_oneof![Just(0_u8), Just(4), Just(8)], vec(any::<u8>(), 0..40))
            .prop_map(|(kind, payload)| frame(kind, 0, &payload));
        vec(prop_oneof![call, other], 0..8).prop_map(|frames| [beginning(), frames.concat()].concat())
    }

    /// Changes of single bytes.
    fn mutations() -> impl Strategy<Value = Vec<(proptest::sample::Index, u8)>> {
        vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn how_bytes_arrive_changes_nothing(
            mut bytes in calls(),
            mutations in mutations(),
            sizes in vec(1..80_usize, 1..4),
            room in 1..200_usize,
        ) {
            for (at, byte) in mutations {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let once = replaced(&bytes);
            prop_assert_eq!(replaced_in_parts(&bytes, &sizes, room), once.clone());
            prop_assert_eq!(once.len(), bytes.len());
            for (before, after) in bytes.iter().zip(&once) {
                prop_assert!(before == after || (b".:,[]".contains(before) && *after == b'-'));
            }
        }
    }
}
