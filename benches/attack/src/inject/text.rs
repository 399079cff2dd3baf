//! The Switcher's text, taken apart: which instructions there are, on which way each lies, and what each can raise.
//!
//! Nothing here knows the text but the names of its start, of its entry from the host and of the parts of its work. The instructions are those
//! that control can come to from the entries, followed through all jumps; what the text holds besides must be
//! padding, or [`Text::read`] fails.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::ops::Range;

use anyhow::{Context, Result, bail};
use arch_i386::addr::PAGE_SIZE;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Formatter, GasFormatter, Instruction, Mnemonic, OpAccess,
    OpKind, Register,
};
use object::{Object, ObjectSection, ObjectSymbol};

use switcher::stubs;
use xtask::flavour::Flavour;

const START: &str = "start";
const ENTER: &str = "enter";
/// From where to where the Switcher looks at the guest's memory by itself, and can give up: for a page fault, and for a hypercall.
const LOOKS: [[&str; 2]; 2] = [["walking", "reflected"], ["switching", "switch"]];

/// Where it begins to do what it has looked at, and where the guest goes on.
const DOES: [&str; 4] = ["reflected", "fill", "switch", "done"];

/// What the names of the labels begin with in the text that runs on this kernel. The module has one for each format of tables.
fn prefix(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Plain => "lguest_switcher_two_level_",
        Flavour::Pae => "lguest_switcher_pae_",
    }
}

/// What fills the text up to its end.
const FILLER: u8 = 0xcc;

/// The text.
pub struct Text {
    /// Its bytes, as they are copied to where it runs.
    pub bytes: Vec<u8>,
    /// Offset of the entry from the host.
    pub enter: u32,
    /// The instructions by their offsets.
    pub instructions: BTreeMap<u32, Instruction>,
    /// Offsets of those between the entry from the host and the `iret` into the guest.
    inwards: BTreeSet<u32>,
    /// The instructions that look at the guest's memory and can be given up, one range for each kind of work.
    pub looks: Vec<Range<u32>>,
    /// Where what was looked at begins to be done, and where the guest goes on.
    pub does: Vec<u32>,
    labels: BTreeMap<u32, String>,
}

/// Where a value comes from that an instruction loads into a segment register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The top of the stack.
    Stack,
    /// Memory, by the instruction's operand.
    Memory,
    /// A general register.
    Register(Register),
    /// The text itself.
    Constant,
}

/// What an instruction is, as far as faults go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Loads a segment register.
    Segment(Register, Source),
    /// `ltr`.
    TaskRegister(Source),
    /// `lldt`.
    LocalTable(Source),
    /// `iret`.
    InterruptReturn,
    /// Uses the stack.
    Stack,
    /// Uses memory of the guest's.
    GuestMemory,
    /// Uses other memory.
    Memory,
    /// Uses neither, and cannot fault by what it is given.
    Plain,
}

impl Text {
    /// Takes the one for a kernel out of the module, an object file.
    pub fn read(module: &[u8], flavour: Flavour) -> Result<Text> {
        let prefix = prefix(flavour);
        let file = object::File::parse(module).context("the module is no object file")?;
        let symbol = |name: &str| {
            let name = format!("{prefix}{name}");
            let found = file.symbols().find(|symbol| symbol.name() == Ok(&name));
            found.with_context(|| format!("the module has no symbol `{name}`"))
        };
        let start = symbol(START)?;
        let end = start.address() + u64::from(PAGE_SIZE);
        let index = start.section_index().context("the Switcher's text is in no section")?;
        let section = file.section_by_index(index)?;
        let bytes = section
            .data_range(start.address(), u64::from(PAGE_SIZE))?
            .context("the Switcher's text is not in its section")?;
        let inside = |symbol: &object::Symbol<'_, '_>| {
            symbol.section_index() == Some(index) && (start.address()..end).contains(&symbol.address())
        };
        let labels = file.symbols().filter(inside).filter_map(|symbol| {
            let name = symbol.name().ok()?.strip_prefix(prefix)?;
            Some(((symbol.address() - start.address()) as u32, name.to_owned()))
        });
        Text::new(bytes.to_vec(), labels.collect())
    }

    fn new(bytes: Vec<u8>, labels: BTreeMap<u32, String>) -> Result<Text> {
        let label = |wanted: &str| labels.iter().find(|(_, name)| *name == wanted).map(|(&at, _)| at);
        let enter = label(ENTER).with_context(|| format!("the Switcher's text has no label `{ENTER}`"))?;
        let mut instructions = BTreeMap::new();
        let inwards = follow(&bytes, enter, &mut instructions)?;
        for vector in 0..=u8::MAX {
            follow(&bytes, stubs::offset(vector), &mut instructions)?;
        }
        let ranges = |names: &[[&str; 2]]| {
            names.iter().filter_map(|[from, to]| Some(label(from)?..label(to)?)).collect::<Vec<_>>()
        };
        let looks = ranges(&LOOKS);
        let does = DOES.iter().filter_map(|name| label(name)).collect();
        let text = Text { bytes, enter, instructions, inwards, looks, does, labels };
        text.check_rest()?;
        Ok(text)
    }

    /// Returns an error when there is something in the text that is neither reached nor padding.
    fn check_rest(&self) -> Result<()> {
        let mut at = 0;
        while at < self.bytes.len() as u32 {
            if let Some(instruction) = self.instructions.get(&at) {
                at += instruction.len() as u32;
                continue;
            }
            let instruction = decode(&self.bytes, at);
            let is_filler = self.bytes[at as usize] == FILLER;
            if !is_filler && instruction.mnemonic() != Mnemonic::Nop && !is_long_nop(&instruction) {
                bail!(
                    "{}: no way leads to `{}`, and it is no padding",
                    self.place(at),
                    assembly(&instruction)
                );
            }
            at += instruction.len() as u32;
        }
        Ok(())
    }

    /// Where the Switcher has done by itself what the guest came for.
    pub fn work_done(&self) -> Result<u32> {
        self.label("done")
    }

    /// Where the guest's general registers are loaded, by the host's way in and after work in the Switcher.
    pub fn back_into_guest(&self) -> Result<u32> {
        self.label("restore")
    }

    fn label(&self, name: &str) -> Result<u32> {
        let found = self.labels.iter().find(|(_, label)| *label == name).map(|(&at, _)| at);
        found.with_context(|| format!("the Switcher's text has no label `{name}`"))
    }

    /// The offset's name: the label before it and the distance, or the vector of the entry point.
    pub fn place(&self, offset: u32) -> String {
        if let Some(vector) = self.stub(offset) {
            return format!("vector {vector}+{:#x}", offset - stubs::offset(vector));
        }
        match self.labels.range(..=offset).next_back() {
            Some((&at, name)) => {
                if at == offset {
                    name.to_owned()
                } else {
                    format!("{name}+{:#x}", offset - at)
                }
            }
            None => format!("{offset:#x}"),
        }
    }

    /// The vector, if an instruction is one of an entry point from the guest and no jump that several share.
    pub fn stub(&self, offset: u32) -> Option<u8> {
        stubs::vector_at(offset)
    }

    /// The offsets of the instructions of a vector's entry point, and of the jump that it shares with others, if it does.
    pub fn stub_instructions(&self, vector: u8) -> impl Iterator<Item = u32> + '_ {
        let from = stubs::offset(vector);
        let next = move |&at: &u32| {
            let instruction = &self.instructions[&at];
            let target = match instruction.flow_control() {
                FlowControl::UnconditionalBranch => instruction.near_branch32(),
                _ => instruction.next_ip32(),
            };
            Some(target).filter(|&target| target < stubs::STUBS_SIZE)
        };
        iter::successors(Some(from), next)
    }

    /// Whether the instruction lies between the entry from the host and the `iret` into the guest.
    pub fn is_inwards(&self, offset: u32) -> bool {
        self.inwards.contains(&offset)
    }

    /// The instructions on the way into the guest, in order of their addresses.
    pub fn inwards(&self) -> impl Iterator<Item = (u32, &Instruction)> {
        self.inwards.iter().map(|at| (*at, &self.instructions[at]))
    }

    /// The comparison on which it depends whether the processor's buffers are cleared behind a fill: two instructions before that.
    pub fn asks_to_clear(&self) -> Option<u32> {
        let clears = |(at, instruction): &(&u32, &Instruction)| {
            instruction.mnemonic() == Mnemonic::Verw && !self.is_inwards(**at)
        };
        let (&at, _) = self.instructions.iter().find(clears)?;
        self.instructions.range(..at).rev().nth(1).map(|(&at, _)| at)
    }

    /// The offset of the `iret` into the guest.
    pub fn last_inwards(&self) -> Result<u32> {
        let last = self.inwards().find(|(_, instruction)| is_iret(instruction)).map(|(at, _)| at);
        last.context("no `iret` into the guest is to be found in the Switcher's text")
    }

    /// The instruction in assembly.
    pub fn assembly(&self, offset: u32) -> String {
        self.instructions.get(&offset).map(assembly).unwrap_or_default()
    }

    /// What the instruction is.
    pub fn kind(&self, offset: u32) -> Kind {
        let instruction = &self.instructions[&offset];
        let source = |operand: u32| match instruction.op_kind(operand) {
            OpKind::Memory => Source::Memory,
            _ if self.is_constant(offset, instruction.op_register(operand)) => Source::Constant,
            _ => Source::Register(instruction.op_register(operand)),
        };
        match instruction.mnemonic() {
            Mnemonic::Pop if instruction.op0_register().is_segment_register() => {
                Kind::Segment(instruction.op0_register(), Source::Stack)
            }
            Mnemonic::Mov
                if instruction.op0_kind() == OpKind::Register
                    && instruction.op0_register().is_segment_register() =>
            {
                Kind::Segment(instruction.op0_register(), source(1))
            }
            Mnemonic::Ltr => Kind::TaskRegister(source(0)),
            Mnemonic::Lldt => Kind::LocalTable(source(0)),
            _ if is_iret(instruction) => Kind::InterruptReturn,
            _ if instruction.is_stack_instruction() => Kind::Stack,
            // The address of `lea` is never used.
            Mnemonic::Lea | Mnemonic::Nop => Kind::Plain,
            _ if instruction.op_kinds().any(|kind| kind == OpKind::Memory) => {
                // What is on the virtual CPU's pages is found by the pointer to them, by the stack, or by a published root.
                let own = [Register::EBP, Register::ESP, Register::EDI].contains(&instruction.memory_base());
                if self.looks_at_guest(offset) && !own { Kind::GuestMemory } else { Kind::Memory }
            }
            _ => Kind::Plain,
        }
    }

    /// Whether the instruction is one of those that look at the guest's memory and can be given up.
    fn looks_at_guest(&self, offset: u32) -> bool {
        self.looks.iter().any(|range| range.contains(&offset))
    }

    /// Whether what a general register holds at an instruction is of the text: the last instruction before it in the
    /// text that changes the register loads a constant.
    fn is_constant(&self, offset: u32, register: Register) -> bool {
        let full = register.full_register32();
        let mut factory = iced_x86::InstructionInfoFactory::new();
        for (_, before) in self.instructions.range(..offset).rev() {
            let writes = factory.info(before).used_registers().iter().any(|used| {
                used.register().full_register32() == full
                    && matches!(
                        used.access(),
                        OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
                    )
            });
            if writes {
                let clears =
                    before.mnemonic() == Mnemonic::Xor && before.op0_register() == before.op1_register();
                let loads = before.mnemonic() == Mnemonic::Mov && is_immediate(before.op1_kind());
                return clears || loads;
            }
        }
        false
    }
}

/// Follows the instructions from `entry` on, through all branches. Returns where it came, and adds what is new.
fn follow(bytes: &[u8], entry: u32, known: &mut BTreeMap<u32, Instruction>) -> Result<BTreeSet<u32>> {
    let mut reached = BTreeSet::new();
    let mut open = vec![entry];
    while let Some(at) = open.pop() {
        if !reached.insert(at) {
            continue;
        }
        if at as usize >= bytes.len() {
            bail!("the Switcher's text leads out of itself, to {at:#x}");
        }
        let instruction = decode(bytes, at);
        if instruction.is_invalid() {
            bail!("the Switcher's text has no instruction at {at:#x}");
        }
        let (next, target) = (instruction.next_ip32(), instruction.near_branch32());
        match instruction.flow_control() {
            FlowControl::Next => open.push(next),
            FlowControl::UnconditionalBranch => open.push(target),
            FlowControl::ConditionalBranch | FlowControl::Call => open.extend([next, target]),
            FlowControl::Return => {}
            _ if instruction.code() == Code::Jmp_rel32_32 => open.push(target),
            other => bail!(
                "the Switcher's text has `{}` ({other:?}), which cannot be followed",
                assembly(&instruction)
            ),
        }
        known.insert(at, instruction);
    }
    Ok(reached)
}

fn decode(bytes: &[u8], at: u32) -> Instruction {
    Decoder::with_ip(32, &bytes[at as usize..], u64::from(at), DecoderOptions::NONE).decode()
}

fn is_iret(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Iretd
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(kind, OpKind::Immediate8 | OpKind::Immediate16 | OpKind::Immediate32 | OpKind::Immediate8to32)
}

/// What assemblers fill up with besides `nop`: `lea 0(%esi), %esi` and the like.
fn is_long_nop(instruction: &Instruction) -> bool {
    let moves_itself = instruction.op0_register() == instruction.memory_base()
        && instruction.memory_displacement32() == 0
        && instruction.memory_index() == Register::None;
    let same = instruction.op0_register() == instruction.op1_register();
    match instruction.mnemonic() {
        Mnemonic::Lea => {
            moves_itself
                || instruction.op0_register() == instruction.memory_base()
                    && instruction.memory_displacement32() == 0
        }
        Mnemonic::Xchg | Mnemonic::Mov => same,
        _ => false,
    }
}

fn assembly(instruction: &Instruction) -> String {
    let mut formatter = GasFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use xtask::process::output;

    /// A little Switcher with these lines between the entry from the host and the end.
    fn text(lines: &str) -> Result<Text> {
        let folder = tempfile::tempdir().unwrap();
        let prefix = prefix(Flavour::Pae);
        let stub = |vector: u8| {
            let jump = if vector < 32 { "lguest_switcher_pae_exit" } else { "1f" };
            // Behind 32 short ones is their jump.
            let shared =
                if vector >= 32 && vector % 32 == 31 { "1: jmp lguest_switcher_pae_exit" } else { "" };
            let at = stubs::offset(vector);
            format!(" .org {prefix}{START} + {at}, 0xcc\n .byte 0x6a, {vector}\n jmp {jump}\n {shared}\n")
        };
        let entries: String = (0..=u8::MAX).map(stub).collect();
        let source = format!(
            ".text\n nop\n .balign 16\n{prefix}{START}:\n{entries} .org {prefix}{START} + {}, 0xcc\n\
             {prefix}{ENTER}:\n{lines}\n .org {prefix}{START} + 4096, 0xcc\n nop\n",
            stubs::STUBS_SIZE
        );
        fs::write(folder.path().join("a.s"), source).unwrap();
        output(Command::new("as").current_dir(&folder).args(["--32", "-o", "a.o", "a.s"])).unwrap();
        Text::read(&fs::read(folder.path().join("a.o")).unwrap(), Flavour::Pae)
    }

    const USUAL: &str = "movw $0x80, %bx; ltr %bx; popl %gs; movw 4(%esp), %fs; mov %eax, %ds; iret
        lguest_switcher_pae_exit: pushl %eax; xorl %edx, %edx; mov %edx, %gs; lldt 8(%eax); iret";

    #[test]
    fn instructions_are_told_from_each_other() {
        let text = text(USUAL).unwrap();
        let kinds: Vec<Kind> = text.inwards().map(|(at, _)| text.kind(at)).collect();
        let constant = Source::Constant;
        assert_eq!(
            kinds,
            [
                Kind::Plain,
                Kind::TaskRegister(constant),
                Kind::Segment(Register::GS, Source::Stack),
                Kind::Segment(Register::FS, Source::Memory),
                Kind::Segment(Register::DS, Source::Register(Register::EAX)),
                Kind::InterruptReturn,
            ]
        );
        let outwards =
            text.instructions.keys().filter(|&&at| at >= stubs::STUBS_SIZE && !text.is_inwards(at));
        let kinds: Vec<Kind> = outwards.map(|&at| text.kind(at)).collect();
        assert_eq!(
            kinds,
            [
                Kind::Stack,
                Kind::Plain,
                Kind::Segment(Register::GS, constant),
                Kind::LocalTable(Source::Memory),
                Kind::InterruptReturn
            ]
        );
    }

    #[test]
    fn places_have_names_of_labels_and_vectors() {
        let text = text(USUAL).unwrap();
        assert_eq!(text.stub_instructions(13).collect::<Vec<_>>(), [13 * 7, 13 * 7 + 2]);
        assert_eq!((text.place(13 * 7 + 2), text.stub(13 * 7 + 2)), ("vector 13+0x2".to_owned(), Some(13)));
        // Those of interrupts have short jumps to one that they share: of 32, the last in the group ends where that is.
        assert_eq!(text.stub_instructions(63).collect::<Vec<_>>(), [348, 350, 352]);
        assert_eq!(
            (text.place(350), text.stub(350), text.stub(352)),
            ("vector 63+0x2".to_owned(), Some(63), None)
        );
        // The entry from the host follows at once.
        assert_eq!((text.enter, text.stub(text.enter)), (0x483, None));
        assert_eq!((text.place(0x483), text.place(0x483 + 4)), ("enter".to_owned(), "enter+0x4".to_owned()));
        assert_eq!(text.assembly(text.last_inwards().unwrap()), "iret");
    }

    #[test]
    fn what_no_way_leads_to_is_an_error() {
        let error = text(&format!("{USUAL}; movl %eax, %ebx")).err().unwrap().to_string();
        assert!(error.contains("no way leads to") && error.contains("mov"), "{error}");
        assert!(text(&format!("{USUAL}; .balign 16")).is_ok(), "padding is not meant to be reached");
        assert!(text(&format!("jmp *%eax; {USUAL}")).is_err(), "nobody can follow this");
    }
}
