//! The device status (VirtIO 1.2 §2.1) as a state machine.
//!
//! ```text
//!           ACKNOWLEDGE            DRIVER         FEATURES_OK              DRIVER_OK
//!    Reset ────────────▶ Acknowledged ───▶ Driver ───────────▶ Negotiated ──────────▶ Live
//!      ▲                      │              │                     │                   │
//!      │                      └──────────────┴──────────┬──────────┴───────────────────┘
//!      │                                                ▼ FAILED
//!      └───────────────── writing 0, from anywhere ── Failed
//! ```
//!
//! `FEATURES_OK` is refused, by staying in `Driver`, when the features are not acceptable. A device
//! that cannot go on stays `Live` and shows `DEVICE_NEEDS_RESET`. A write that is no step of this
//! picture changes nothing.

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

const ACKNOWLEDGED: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
const DRIVER: u32 = ACKNOWLEDGED | VIRTIO_CONFIG_S_DRIVER;
const NEGOTIATED: u32 = DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
const LIVE: u32 = NEGOTIATED | VIRTIO_CONFIG_S_DRIVER_OK;

/// How far the driver has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Reset,
    Acknowledged,
    Driver,
    Negotiated,
    Live,
    /// The driver gave up, with these bits set besides.
    Failed(u32),
}

impl Status {
    /// The register's value.
    pub(super) fn register(self, needs_reset: bool) -> u32 {
        let bits = match self {
            Self::Reset => 0,
            Self::Acknowledged => ACKNOWLEDGED,
            Self::Driver => DRIVER,
            Self::Negotiated => NEGOTIATED,
            Self::Live => LIVE,
            Self::Failed(bits) => bits | VIRTIO_CONFIG_S_FAILED,
        };
        if needs_reset { bits | VIRTIO_CONFIG_S_NEEDS_RESET } else { bits }
    }

    /// The status that a write of `value`, not 0, asks for; none if it is no legal step.
    pub(super) fn after_write(self, value: u32) -> Option<Self> {
        if value & VIRTIO_CONFIG_S_FAILED != 0 {
            return match self {
                Self::Failed(_) => None,
                _ => Some(Self::Failed(self.register(false))),
            };
        }
        match (self, value & !VIRTIO_CONFIG_S_NEEDS_RESET) {
            (Self::Reset, ACKNOWLEDGED) => Some(Self::Acknowledged),
            (Self::Reset | Self::Acknowledged, DRIVER) => Some(Self::Driver),
            (Self::Driver, NEGOTIATED) => Some(Self::Negotiated),
            (Self::Negotiated, LIVE) => Some(Self::Live),
            _ => None,
        }
    }
}
