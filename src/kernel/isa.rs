//! The instruction sets that kernels exist for, by name.

/// An instruction set with kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain loops: the definition of correct.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512 F, BW and VL: 16 lanes.
    Avx512,
    /// AArch64: 4 lanes.
    Neon,
}

impl Isa {
    /// Every instruction set, in order of preference.
    pub const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Scalar];

    /// The name of this instruction set in `SHORTLIST_KERNEL`, logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Isa {
    type Err = KernelError;

    fn from_str(word: &str) -> Result<Self, KernelError> {
        Isa::ALL
            .into_iter()
            .find(|isa| isa.name() == word)
            .ok_or_else(|| KernelError::Unknown { word: word.to_owned() })
    }
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// No instruction set has this name.
    #[error("unknown kernel {word:?}: expected {}", listed(Isa::ALL))]
    Unknown {
        /// The requested name.
        word: String,
    },
    /// This processor, or this build, does not have the instruction set.
    #[error(
        "kernel {isa} is not available on this machine: available are {}",
        listed(available.iter().copied())
    )]
    Unavailable {
        /// The requested instruction set.
        isa: Isa,
        /// The instruction sets that this machine has.
        available: Vec<Isa>,
    },
}

/// The names of instruction sets, for error messages.
fn listed(isas: impl IntoIterator<Item = Isa>) -> String {
    isas.into_iter().map(Isa::name).collect::<Vec<_>>().join(", ")
}
