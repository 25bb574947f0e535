//! How messages become bytes: as prost does it, but in small buffers. The usual ones of 8 KiB for each
//! direction would be most of what an open stream costs, and no message of this service comes near.

use std::fmt;
use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// The buffer of a call, in bytes; it grows where a message is larger.
const BUFFER: usize = 256;

/// From how many bytes on messages that follow each other are handed to the connection.
const YIELD_FROM: usize = 4096;

/// The codec of the generated service and its client.
pub struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> fmt::Debug for SmallCodec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmallCodec").finish_non_exhaustive()
    }
}

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER, YIELD_FROM))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER, YIELD_FROM))
    }
}
