//! The values of a message on the wire.

/// The number of nested messages at which the decoder stops.
pub(super) const MAX_DEPTH: usize = 100;

/// The decoder stops here, too.
pub(super) struct Malformed;

/// A value on the wire.
pub(super) enum Wire<'a> {
    Varint,
    Fixed32,
    Fixed64,
    Bytes(&'a [u8]),
    Group,
}

impl<'a> Wire<'a> {
    /// Takes a value from the front of `bytes`.
    pub(super) fn read(bytes: &mut &'a [u8], key: u64) -> Result<Self, Malformed> {
        Ok(match key & 7 {
            0 => {
                varint(bytes)?;
                Wire::Varint
            }
            1 => {
                take(bytes, 8)?;
                Wire::Fixed64
            }
            2 => {
                let length = usize::try_from(varint(bytes)?).map_err(|_| Malformed)?;
                Wire::Bytes(take(bytes, length)?)
            }
            3 => {
                skip_group(bytes)?;
                Wire::Group
            }
            5 => {
                take(bytes, 4)?;
                Wire::Fixed32
            }
            _ => return Err(Malformed),
        })
    }
}

/// Skips the rest of a group, which no message has, and the groups within it.
fn skip_group(bytes: &mut &[u8]) -> Result<(), Malformed> {
    let mut depth = 1;
    while depth > 0 {
        let key = varint(bytes)?;
        match key & 7 {
            3 => depth += 1,
            4 => depth -= 1,
            _ => _ = Wire::read(bytes, key)?,
        }
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    prost::encoding::decode_varint(bytes).map_err(|_| Malformed)
}
