//! Looks at a library file without running any of its code: is it whole, for this machine, a plugin, compatible.
//!
//! `dlopen` of a truncated file kills the process and constructors run before any check, so all of this comes first.
//! Source of the rules: DESIGN 4.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use object::elf;
use object::read::elf::{
    FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _, SymbolTable,
};
use object::{Endianness, ReadCache, ReadRef as _, SymbolIndex};
use semver::Version;
use whimbrel_plugin_api::manifest::{
    API_VERSION, HEADER_SYMBOL, MANIFEST_BYTES_MAX, MANIFEST_SYMBOL, Manifest,
};
use whimbrel_plugin_api::{Error, ErrorKind};

/// A library of more octets is not read.
const LIBRARY_BYTES_MAX: u64 = 1 << 30;

/// The version of the plugin API that this host speaks.
pub fn host_api_version() -> Version {
    Version::parse(API_VERSION).expect("the API version is a constant in semver form")
}

/// Checks the file at `path` and reads its manifest.
///
/// # Errors
/// Each with a code of its own: `plugin.symlink`, `plugin.world_writable`, `plugin.unreadable`, `plugin.not_elf`,
/// `plugin.wrong_machine`, `plugin.truncated`, `plugin.not_a_plugin`, `plugin.bad_manifest`, `plugin.api_mismatch`,
/// `plugin.host_too_old`.
pub fn inspect(path: &Path) -> Result<Manifest, Error> {
    let (file, size_bytes) = open(path)?;
    let octets = ReadCache::new(file);
    check_whole(&octets, size_bytes)?;
    let tables = Tables::read(&octets).map_err(|error| {
        refuse("plugin.truncated", "its ELF tables are damaged or cut short").with_cause(&error)
    })?;
    let manifest = Manifest::parse(tables.manifest_octets()?)?;
    let host_api = host_api_version();
    if !manifest.is_compatible(&host_api) {
        return Err(refuse(
            "plugin.api_mismatch",
            format!(
                "built for plugin API {}, this host speaks {host_api}",
                manifest.api_version
            ),
        )
        .with_help(format!("rebuild the plugin with plugin API {host_api}")));
    }
    let host = Version::parse(env!("CARGO_PKG_VERSION")).expect("the package version is in semver form");
    if manifest.host_version_min > host {
        return Err(refuse(
            "plugin.host_too_old",
            format!(
                "it needs whimbrel {} or later, this is {host}",
                manifest.host_version_min
            ),
        ));
    }
    if tables.exported(HEADER_SYMBOL).is_none() {
        return Err(refuse(
            "plugin.not_a_plugin",
            format!("it has a manifest, but no symbol `{HEADER_SYMBOL}`"),
        ));
    }
    Ok(manifest)
}

fn refuse(code: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, code, message)
}

/// Opens a file that is fit to be looked at. What is read of it later is read on demand: a library may be large.
fn open(path: &Path) -> Result<(File, u64), Error> {
    let unreadable =
        |error: std::io::Error| refuse("plugin.unreadable", "the file cannot be read").with_cause(&error);
    let metadata = std::fs::symlink_metadata(path).map_err(unreadable)?;
    if metadata.file_type().is_symlink() {
        return Err(refuse("plugin.symlink", "it is a symbolic link")
            .with_help("copy the library itself into the folder"));
    }
    if !metadata.is_file() {
        return Err(refuse("plugin.unreadable", "it is not a regular file"));
    }
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(refuse("plugin.world_writable", "everybody may change the file")
            .with_help("run `chmod o-w` on it"));
    }
    if metadata.len() > LIBRARY_BYTES_MAX {
        return Err(refuse(
            "plugin.unreadable",
            format!("it is larger than {LIBRARY_BYTES_MAX} octets"),
        ));
    }
    let file = File::open(path).map_err(unreadable)?;
    Ok((file, metadata.len()))
}

/// Refuses what `dlopen` would choke on: no ELF, another machine, segments beyond the end of the file.
fn check_whole(octets: &ReadCache<File>, size_bytes: u64) -> Result<(), Error> {
    if octets.read_bytes_at(0, 4) != Ok(&elf::ELFMAG[..]) {
        return Err(refuse("plugin.not_elf", "it is not an ELF library"));
    }
    let truncated = || refuse("plugin.truncated", "the file is cut short");
    let identification = octets.read_bytes_at(4, 2).map_err(|()| truncated())?;
    let little = if cfg!(target_endian = "little") {
        elf::ELFDATA2LSB
    } else {
        elf::ELFDATA2MSB
    };
    if identification != [elf::ELFCLASS64.0, little.0] {
        return Err(refuse(
            "plugin.wrong_machine",
            "it was built for another kind of machine",
        ));
    }
    let header = elf::FileHeader64::<Endianness>::parse(octets).map_err(|_| truncated())?;
    let endian = header.endian().map_err(|_| truncated())?;
    let machine = if cfg!(target_arch = "x86_64") {
        elf::EM_X86_64
    } else if cfg!(target_arch = "aarch64") {
        elf::EM_AARCH64
    } else {
        header.e_machine(endian)
    };
    if header.e_machine(endian) != machine {
        return Err(refuse(
            "plugin.wrong_machine",
            "it was built for another kind of machine",
        ));
    }
    if header.e_type(endian) != elf::ET_DYN {
        return Err(refuse("plugin.not_elf", "it is not a shared library"));
    }
    let segments = header.program_headers(endian, octets).map_err(|_| truncated())?;
    for segment in segments {
        let end = segment
            .p_offset(endian)
            .checked_add(segment.p_filesz(endian))
            .ok_or_else(truncated)?;
        if end > size_bytes {
            return Err(truncated());
        }
    }
    if segments.is_empty() {
        return Err(refuse("plugin.not_elf", "it has nothing to load"));
    }
    Ok(())
}

type Header = elf::FileHeader64<Endianness>;
type Octets<'data> = &'data ReadCache<File>;

/// The tables that say where the manifest is. Others are not read: the one of all symbols, which is there for debuggers, is a large part
/// of a library, and every library of a folder is looked at by each command.
struct Tables<'data> {
    octets: Octets<'data>,
    endian: Endianness,
    sections: SectionTable<'data, Header, Octets<'data>>,
    symbols: SymbolTable<'data, Header, Octets<'data>>,
}

impl<'data> Tables<'data> {
    fn read(octets: Octets<'data>) -> object::Result<Self> {
        let header = Header::parse(octets)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, octets)?;
        let symbols = sections.symbols(endian, octets, elf::SHT_DYNSYM)?;
        Ok(Self {
            octets,
            endian,
            sections,
            symbols,
        })
    }

    /// What the library defines for others under `name`.
    fn exported(&self, name: &str) -> Option<(SymbolIndex, &'data elf::Sym64<Endianness>)> {
        self.symbols.enumerate().find(|(_, symbol)| {
            symbol.is_definition(self.endian, self.symbols.strings())
                && self.symbols.symbol_name(self.endian, symbol) == Ok(name.as_bytes())
        })
    }

    fn manifest_octets(&self) -> Result<&'data [u8], Error> {
        let (index, symbol) = self.exported(MANIFEST_SYMBOL).ok_or_else(|| {
            refuse(
                "plugin.not_a_plugin",
                "it is a library, but not a whimbrel plugin",
            )
        })?;
        self.content(index, symbol).ok_or_else(|| {
            refuse(
                "plugin.bad_manifest",
                "the plugin's manifest is not where it should be",
            )
        })
    }

    /// What a symbol stands for, at most as long as a manifest may be; `None` if that is not in the file.
    fn content(&self, index: SymbolIndex, symbol: &elf::Sym64<Endianness>) -> Option<&'data [u8]> {
        let size_bytes = symbol.st_size(self.endian).min(MANIFEST_BYTES_MAX as u64);
        let section = self.symbols.symbol_section(self.endian, symbol, index).ok()??;
        let section = self.sections.section(section).ok()?;
        let (offset, length) = section.file_range(self.endian)?;
        let within = symbol
            .st_value(self.endian)
            .checked_sub(section.sh_addr(self.endian))?;
        let is_in_section = within.checked_add(size_bytes)? <= length;
        let octets = is_in_section.then(|| {
            self.octets
                .read_bytes_at(offset.checked_add(within)?, size_bytes)
                .ok()
        });
        octets?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(octets: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        std::fs::write(&path, octets).unwrap();
        inspect(&path).unwrap_err().code
    }

    #[test]
    fn what_is_no_library_is_refused_with_its_reason() {
        assert_eq!(code_of(b""), "plugin.not_elf");
        assert_eq!(code_of(b"hello"), "plugin.not_elf");
        assert_eq!(code_of(b"\x7fELF"), "plugin.truncated");
        assert_eq!(code_of(b"\x7fELF\x01\x01"), "plugin.wrong_machine");
    }

    #[test]
    fn no_cut_of_a_real_executable_is_accepted_or_panics() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for cut in (0..4096).chain([whole.len() / 2, whole.len() - 1]) {
            let code = code_of(&whole[..cut]);
            assert!(code.starts_with("plugin."), "{code}");
        }
    }

    #[test]
    fn what_only_debuggers_read_is_not_looked_at() {
        let mut whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let header = Header::parse(&*whole).unwrap();
        let endian = header.endian().unwrap();
        let sections = header.sections(endian, &*whole).unwrap();
        let symbols = sections.symbols(endian, &*whole, elf::SHT_SYMTAB).unwrap();
        let entry_bytes = size_of::<elf::SectionHeader64<Endianness>>();
        let table = symbols.section().0 * entry_bytes + header.e_shoff(endian) as usize;
        // Its offset, behind name, type, flags and address.
        whole[table + 24..table + 32].fill(0x7f);
        assert_eq!(code_of(&whole), "plugin.not_a_plugin");
    }

    #[test]
    fn links_and_writable_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.so");
        std::fs::write(&path, b"x").unwrap();
        let link = folder.path().join("b.so");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(inspect(&link).unwrap_err().code, "plugin.symlink");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(inspect(&path).unwrap_err().code, "plugin.world_writable");
        assert_eq!(inspect(folder.path()).unwrap_err().code, "plugin.unreadable");
        assert_eq!(
            inspect(&folder.path().join("none")).unwrap_err().code,
            "plugin.unreadable"
        );
    }
}
