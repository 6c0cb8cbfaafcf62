//! Text that the library makes and the caller owns.

use crate::border::{free, guarded_or};
use std::ffi::c_char;

/// A text that a call returned: UTF-8, mostly JSON.
///
/// Ownership: the caller's, until tokenweir_text_free(). Threads: any number may read it at once.
pub struct tokenweir_text(Chars);

impl tokenweir_text {
    pub(crate) fn new(text: &str) -> Self {
        tokenweir_text(Chars::new(text))
    }
}

/// Text as C reads it: with a NUL behind it, and none inside.
pub(crate) struct Chars(Box<[u8]>);

impl Chars {
    pub(crate) fn new(text: &str) -> Self {
        // A NUL inside would be taken for the end; JSON has none, messages may quote one.
        let mut chars = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }.into_bytes();
        chars.push(0);
        Chars(chars.into())
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
