//! Text that the library makes and the caller owns.

use crate::border::{Failure, free, guarded, guarded_or, handle};
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use std::ffi::c_char;

/// A text that a call returned: UTF-8, mostly JSON; where a call says so, the bytes of a body as they came.
///
/// Ownership: the caller's, until tokenweir_text_free(). Threads: any number may read it at once.
pub struct tokenweir_text(pub(crate) Chars);

/// Runs an entry point that answers in JSON, a value or written already; see [`guarded`].
///
/// # Safety
/// `json` and `error` are NULL or may be written.
pub(crate) unsafe fn guarded_json<T: ToString>(
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
    body: impl FnOnce() -> Result<T, Failure>,
) -> tokenweir_code {
    // SAFETY: the caller's word.
    unsafe {
        guarded(error, || {
            let json = handle(json, "json")?;
            json.give(tokenweir_text(Chars::new(&body()?.to_string())));
            Ok(())
        })
    }
}

/// Text as C reads it: with a NUL behind it, and none inside.
pub(crate) struct Chars(Box<[u8]>);

impl Chars {
    pub(crate) fn new(text: &str) -> Self {
        // A NUL inside would be taken for the end; JSON has none, messages may quote one.
        Chars::of_bytes(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }.into_bytes())
    }

    /// Bytes as they are: who reads them goes by the length.
    pub(crate) fn of_bytes(mut bytes: Vec<u8>) -> Self {
        bytes.push(0);
        Chars(bytes.into())
    }

    pub(crate) fn pointer(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }

    pub(crate) fn length(&self) -> usize {
        self.0.len() - 1
    }
}

/// The characters: UTF-8 with a NUL behind them, valid until the text is freed. "" for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_text_chars(text: *const tokenweir_text) -> *const c_char {
    guarded_or(c"".as_ptr(), || {
        // SAFETY: NULL or live, as the header asks.
        unsafe { text.as_ref() }.map_or(c"".as_ptr(), |text| text.0.pointer())
    })
}

/// How many bytes the text has, without the NUL. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_text_length(text: *const tokenweir_text) -> usize {
    guarded_or(0, || {
        // SAFETY: NULL or live, as the header asks.
        unsafe { text.as_ref() }.map_or(0, |text| text.0.length())
    })
}

/// Frees a text. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_text_free(text: *mut tokenweir_text) {
    // SAFETY: NULL or a text of ours that nobody uses any more, as the header asks.
    unsafe { free(text) }
}
