//go:build !static

package main

// #cgo pkg-config: tokenweir
import "C"
