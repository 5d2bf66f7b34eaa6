//! The two PC devices that a Linux guest without firmware still wants: a UART for the words of a
//! dying kernel and the reset line of the keyboard controller.

mod i8042;
mod serial;

pub use i8042::I8042;
pub use serial::Serial;
