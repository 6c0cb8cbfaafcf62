//! The border: what every entry point goes through, and how pointers from the other side are read.

use crate::code::{self, tokenweir_code};
use crate::error::tokenweir_error;
use std::any::Any;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;
use tokenweir::PermitId;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Engine(#[from] tokenweir::Error),
    #[error(transparent)]
    QuotaFile(#[from] tokenweir_redb::QuotaFileError),
    #[error(transparent)]
    Region(#[from] tokenweir_shared::SharedError),
    #[error("the thread that renews leases cannot be started: {0}; free some, or let the host renew leases")]
    NoThread(std::io::Error),
    #[error("permit 0 was not issued by this limiter; use the id that its admission returned")]
    PermitZero,
    #[error("{0} is NULL; pass a valid pointer")]
    Null(&'static str),
    #[error("{what} is not UTF-8 from byte {valid} on; pass text in UTF-8")]
    Utf8 { what: &'static str, valid: usize },
    #[error("{name}.size is {given}, not {expected}; set it to sizeof({name}) and use the header of this library")]
    StructSize { name: &'static str, given: u32, expected: usize },
    #[error("a reserved field of {0} is not zero; clear the whole struct before you set its fields")]
    Reserved(&'static str),
    #[error("{what} is {given}; {remedy}")]
    Argument { what: &'static str, given: u64, remedy: &'static str },
    #[error("{0} is given for a limiter on a shared region; leave it NULL, the time there is the host's")]
    WithRegion(&'static str),
    #[error("the snapshot cannot be read: {0}; give what tokenweir_limiter_snapshot() wrote, or begin without it")]
    Snapshot(serde_json::Error),
    #[error(
        "the options cannot be taken: {0}; give an object of the fields in tokenweir_console_new()'s comment, or nothing"
    )]
    Options(String),
    #[error("the console has no resource {0:?}; give the name of one that was declared")]
    Resource(String),
    #[error("the call has ended before; end each call once")]
    CallEnded,
    #[error("{0}; begin with tokenweir_exchange_answered(), once, then give the pieces")]
    CallOrder(&'static str),
    #[error(transparent)]
    Body(#[from] tokenweir_wire::RequestError),
    #[error("the clock is not {0}; make one that is, with the function of that name")]
    ClockKind(&'static str),
    #[error("the library panicked: {0}; the limiter goes on, please report this")]
    Panic(String),
}

impl Failure {
    fn code(&self) -> tokenweir_code {
        match self {
            Failure::Engine(error) => code::of_engine(error.code()),
            Failure::QuotaFile(error) => code::of_engine(error.code()),
            Failure::Region(error) => code::of_engine(error.code()),
            Failure::NoThread(_) => tokenweir_code::TOKENWEIR_STORE_FAILED,
            Failure::PermitZero => tokenweir_code::TOKENWEIR_PERMIT_UNKNOWN,
            Failure::Null(_) => tokenweir_code::TOKENWEIR_NULL_ARGUMENT,
            Failure::Utf8 { .. } => tokenweir_code::TOKENWEIR_UTF8_INVALID,
            Failure::StructSize { .. } => tokenweir_code::TOKENWEIR_STRUCT_SIZE,
            Failure::Reserved(_) => tokenweir_code::TOKENWEIR_RESERVED_NOT_ZERO,
            Failure::WithRegion(_) | Failure::Argument { .. } => tokenweir_code::TOKENWEIR_ARGUMENT_INVALID,
            Failure::Snapshot(_) => tokenweir_code::TOKENWEIR_SNAPSHOT_INVALID,
            Failure::Options(_) => tokenweir_code::TOKENWEIR_OPTIONS_INVALID,
            Failure::Resource(_) => tokenweir_code::TOKENWEIR_RESOURCE_UNKNOWN,
            Failure::CallEnded => tokenweir_code::TOKENWEIR_PERMIT_SETTLED,
            Failure::CallOrder(_) => tokenweir_code::TOKENWEIR_CALL_ORDER,
            Failure::Body(_) => tokenweir_code::TOKENWEIR_BODY_INVALID,
            Failure::ClockKind(_) => tokenweir_code::TOKENWEIR_CLOCK_KIND,
            Failure::Panic(_) => tokenweir_code::TOKENWEIR_PANIC,
        }
    }
}

/// Runs an entry point: no panic leaves it, and what went wrong is told by code and, if the caller gave a place for it,
/// by an error object of the caller's.
///
/// # Safety
/// `error` is NULL or may be written.
#[inline]
pub(crate) unsafe fn guarded(
    error: *mut *mut tokenweir_error,
    body: impl FnOnce() -> Result<(), Failure>,
) -> tokenweir_code {
    if !error.is_null() {
        // SAFETY: the caller's word.
        unsafe { error.write(ptr::null_mut()) };
    }
    // Unwind safe: the engine keeps its counters consistent by itself, whoever stops where.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return tokenweir_code::TOKENWEIR_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::Panic(panic_message(panic)),
    };
    // SAFETY: the caller's word.
    unsafe { tell(error, &failure) }
}

/// Runs an entry point that has no code to return; a panic comes out as `otherwise`.
#[inline]
pub(crate) fn guarded_or<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let _ = panic_message(panic);
        otherwise
    })
}

/// # Safety
/// `error` is NULL or may be written.
#[cold]
unsafe fn tell(error: *mut *mut tokenweir_error, failure: &Failure) -> tokenweir_code {
    guarded_or(tokenweir_code::TOKENWEIR_PANIC, || {
        let code = failure.code();
        if !error.is_null() {
            let told = Box::new(tokenweir_error::new(code, &failure.to_string()));
            // SAFETY: the caller's word.
            unsafe { error.write(Box::into_raw(told)) };
        }
        code
    })
}

#[cold]
fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message").to_owned();
    // Whatever was thrown may panic once more when it is dropped.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic))).map_err(std::mem::forget);
    text
}

/// A plain struct of the header: it begins with its own size.
///
/// # Safety
/// The type is `repr(C)`, its first field is `size: u32`, and any bits are a value of it.
pub(crate) unsafe trait Struct {
    const NAME: &'static str;

    /// Whether what may mean something one day means nothing yet.
    fn is_clear(&self) -> bool {
        true
    }
}

/// Implements [`Struct`]; the type must have the fields that are named.
macro_rules! plain_struct {
    ($name:ident $(, $reserved:ident = $zero:expr)*) => {
        const _: () = assert!(std::mem::offset_of!($name, size) == 0);
        // SAFETY: `repr(C)` (the lint for improper types holds for it), `size` first as checked above, and nothing but
        // integers and pointers inside.
        unsafe impl crate::border::Struct for $name {
            const NAME: &'static str = stringify!($name);
            #[inline]
            fn is_clear(&self) -> bool {
                true $(&& self.$reserved == $zero)*
            }
        }
    };
}
pub(crate) use plain_struct;

/// # Safety
/// `pointer` is NULL or points to a struct of the size that its first field says.
#[inline]
unsafe fn sized<T: Struct>(pointer: *const T) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::Null(T::NAME));
    }
    // SAFETY: the caller's word; the size comes first in it.
    let given = unsafe { pointer.cast::<u32>().read() };
    if given as usize != size_of::<T>() {
        return Err(Failure::StructSize { name: T::NAME, given, expected: size_of::<T>() });
    }
    Ok(())
}

/// A struct that the caller filled.
///
/// # Safety
/// `pointer` is NULL or points to a struct of the size that its first field says, all of it written, which nobody
/// writes during the call.
#[inline]
pub(crate) unsafe fn input<'a, T: Struct>(pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller's word.
    unsafe { sized(pointer)? };
    // SAFETY: the caller's word, and the size is that of `T`.
    let value = unsafe { &*pointer };
    if !value.is_clear() {
        return Err(Failure::Reserved(T::NAME));
    }
    Ok(value)
}

/// A struct that is to be filled: not NULL, and of the right size.
///
/// # Safety
/// `pointer` is NULL or points to a struct of the size that its first field says.
#[inline]
pub(crate) unsafe fn output<T: Struct>(pointer: *mut T) -> Result<*mut T, Failure> {
    // SAFETY: the caller's word.
    unsafe { sized(pointer)? };
    Ok(pointer)
}

/// A handle, or any other value that is read.
///
/// # Safety
/// `pointer` is NULL or points to a live `T` that nobody changes during the call, but through its atomics.
#[inline]
pub(crate) unsafe fn shared<'a, T>(pointer: *const T, what: &'static str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's word.
    unsafe { pointer.as_ref() }.ok_or(Failure::Null(what))
}

/// Where a plain value goes.
///
/// # Safety
/// `pointer` is NULL or may be written.
#[inline]
pub(crate) unsafe fn place<'a, T: Copy>(pointer: *mut T, what: &'static str) -> Result<Place<'a, T>, Failure> {
    if pointer.is_null() { Err(Failure::Null(what)) } else { Ok(Place(pointer, std::marker::PhantomData)) }
}

/// A place that may be written for `'a`.
pub(crate) struct Place<'a, T>(*mut T, std::marker::PhantomData<&'a mut T>);

impl<T> Place<'_, T> {
    pub(crate) fn put(self, value: T) {
        // SAFETY: `place` was given a pointer that may be written.
        unsafe { self.0.write(value) }
    }
}

/// Where a new handle goes; NULL stands there unless one does.
///
/// # Safety
/// `pointer` is NULL or may be written.
pub(crate) unsafe fn handle<'a, T>(pointer: *mut *mut T, what: &'static str) -> Result<Place<'a, *mut T>, Failure> {
    // SAFETY: the caller's word.
    let place = unsafe { place(pointer, what)? };
    // SAFETY: as above; `place` has found that it is not NULL.
    unsafe { pointer.write(ptr::null_mut()) };
    Ok(place)
}

impl<T> Place<'_, *mut T> {
    /// Gives the value away; its free function takes it back.
    pub(crate) fn give(self, value: T) {
        self.put(Box::into_raw(Box::new(value)));
    }
}

/// Frees what [`Place::give`] gave.
///
/// # Safety
/// `pointer` is NULL or came from `give`, and nobody uses it any more.
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    guarded_or((), || {
        if !pointer.is_null() {
            // SAFETY: the caller's word; it is a box's.
            drop(unsafe { Box::from_raw(pointer) });
        }
    });
}

/// `length` bytes; any pointer will do for none.
///
/// # Safety
/// `data` is NULL or `length` bytes can be read there, which nobody writes during the call.
#[inline]
pub(crate) unsafe fn bytes<'a>(data: *const c_char, length: usize, what: &'static str) -> Result<&'a [u8], Failure> {
    // SAFETY: the caller's word; a character is a byte.
    unsafe { array(data.cast(), length, what) }
}

/// `length` values; any pointer will do for none.
///
/// # Safety
/// `data` is NULL or `length` values can be read there, which nobody writes during the call.
#[inline]
pub(crate) unsafe fn array<'a, T>(data: *const T, length: usize, what: &'static str) -> Result<&'a [T], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Failure::Null(what));
    }
    if length > isize::MAX as usize / size_of::<T>() {
        let remedy = "no memory is that long: the length is wrong";
        return Err(Failure::Argument { what, given: length as u64, remedy });
    }
    // SAFETY: the caller's word, not NULL, and no longer than an object can be.
    Ok(unsafe { slice::from_raw_parts(data, length) })
}

/// Text.
///
/// # Safety
/// As for [`bytes`].
#[inline]
pub(crate) unsafe fn text<'a>(data: *const c_char, length: usize, what: &'static str) -> Result<&'a str, Failure> {
    // SAFETY: the caller's word.
    let bytes = unsafe { bytes(data, length, what)? };
    std::str::from_utf8(bytes).map_err(|error| Failure::Utf8 { what, valid: error.valid_up_to() })
}

/// A permit's id; 0 is nobody's.
#[inline]
pub(crate) fn permit(id: u64) -> Result<PermitId, Failure> {
    PermitId::new(id).ok_or(Failure::PermitZero)
}
