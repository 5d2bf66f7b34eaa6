//! Frames: a 4-byte little-endian length, then one message in postcard encoding.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

use crate::MAX_FRAME;

/// Why a frame could not be read or written. Except for [`FrameError::TooLong`] on writing, the
/// connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    #[error("frame does not decode")]
    Decode(#[source] postcard::Error),
    #[error("message does not encode")]
    Encode(#[source] postcard::Error),
    #[error("connection failed")]
    Io(#[from] io::Error),
}

/// Decodes one whole message; bytes left over are an error.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(FrameError::Decode(postcard::Error::SerdeDeCustom)),
        Err(error) => Err(FrameError::Decode(error)),
    }
}

/// Encodes a message as a frame: length and body in one buffer.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(FrameError::Encode)?;
    let body = frame.len() - 4;
    match u32::try_from(body) {
        Ok(length) if body <= MAX_FRAME => frame[..4].copy_from_slice(&length.to_le_bytes()),
        _ => return Err(FrameError::TooLong(body)),
    }
    Ok(frame)
}

/// Writes one message and flushes it.
pub fn write_frame<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?)?;
    Ok(to.flush()?)
}

/// Reads one message; `None` when the connection ended between frames.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut length = [0; 4];
    let mut have = 0;
    while have < length.len() {
        match from.read(&mut length[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    decode(&body).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Change, ContainerSpec, FromAgent, Limit, ProcessId, ProcessSpec, StreamHello, Tmpfs,
        ToAgent, VERSION, WindowSize,
    };

    fn start() -> ToAgent {
        ToAgent::Start(Box::new(ContainerSpec {
            hostname: "web".into(),
            hosts: "127.0.0.1 localhost\n".into(),
            resolv_conf: String::new(),
            entropy: vec![7; 32],
            grow_disk: false,
            ephemeral: true,
            process: ProcessSpec {
                args: vec![b"sh".to_vec(), vec![0xff]],
                env: vec![b"A=b".to_vec()],
                cwd: b"/".to_vec(),
                user: "1:2".into(),
                groups: Vec::new(),
                terminal: Some(WindowSize { rows: 24, columns: 80 }),
                stdin: true,
                output: true,
            },
            read_only: false,
            shm_bytes: 64 << 20,
            tmpfs: vec![Tmpfs { target: b"/run".to_vec(), options: "size=1m".into() }],
            limits: vec![Limit { resource: 7, soft: Some(1), hard: None }],
            sysctls: vec![("net.core.somaxconn".into(), "1".into())],
            capabilities: 1,
            privileged: false,
            pids_max: Some(100),
            no_new_privileges: true,
        }))
    }

    #[test]
    fn frame_survives_the_wire() {
        let mut wire = Vec::new();
        write_frame(&mut wire, &ToAgent::Hello { version: VERSION }).unwrap();
        write_frame(&mut wire, &start()).unwrap();
        let mut from = wire.as_slice();
        assert_eq!(read_frame(&mut from).unwrap(), Some(ToAgent::Hello { version: VERSION }));
        assert_eq!(read_frame(&mut from).unwrap(), Some(start()));
        assert!(read_frame::<ToAgent>(&mut from).unwrap().is_none());
    }

    /// `threats.md` row 28: the length is refused before anything of that size is allocated.
    #[test]
    fn four_gib_length_is_refused() {
        let wire = [0xff, 0xff, 0xff, 0xff, 0];
        let error = read_frame::<FromAgent>(&mut wire.as_slice()).unwrap_err();
        assert!(matches!(error, FrameError::TooLong(0xffff_ffff)));
    }

    #[test]
    fn truncated_frame_is_an_error_not_an_end() {
        let whole = encode(&start()).unwrap();
        for cut in 1..whole.len() {
            assert!(read_frame::<ToAgent>(&mut &whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn bytes_after_the_message_are_refused() {
        let mut frame = encode(&FromAgent::Unmounted).unwrap();
        frame.push(0);
        frame[0] += 1;
        assert!(read_frame::<FromAgent>(&mut frame.as_slice()).is_err());
    }

    #[test]
    fn message_over_the_limit_is_not_sent() {
        let message = FromAgent::StartFailed {
            process: ProcessId::INIT,
            reason: crate::StartFailure::Setup,
            message: "x".repeat(MAX_FRAME),
        };
        assert!(matches!(encode(&message), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<FromAgent>(&bytes);
            let _ = decode::<ToAgent>(&bytes);
            let _ = decode::<StreamHello>(&bytes);
            let _ = decode::<Change>(&bytes);
            let _ = read_frame::<FromAgent>(&mut bytes.as_slice());
        }

        #[test]
        fn process_ids_survive(id: u32) {
            let frame = encode(&ProcessId(id)).unwrap();
            prop_assert_eq!(read_frame(&mut frame.as_slice()).unwrap(), Some(ProcessId(id)));
        }
    }
}
