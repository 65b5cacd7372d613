// What no font of this browser has is told by its code point: an empty box says nothing, and all look alike.
{
const SIZE = 20
const COMMON = /^[\u0000-\u024f]*$/
const MISSING = "\u{10FFFD}" // no font has it
const known = new Map()
let pen = null
const drawn = (char) => {
  pen.clearRect(0, 0, SIZE, SIZE)
  pen.fillText(char, 1, SIZE - 5)
  return pen.getImageData(0, 0, SIZE, SIZE).data.join()
}
let box = ""
const has = (char) => {
  if (!known.has(char)) {
    if (pen === null) {
      const canvas = document.createElement("canvas")
      canvas.width = canvas.height = SIZE
      pen = canvas.getContext("2d", { willReadFrequently: true })
      pen.font = "14px sans-serif"
      box = drawn(MISSING)
    }
    known.set(char, drawn(char) !== box)
  }
  return known.get(char)
}
const pointOf = (char) => `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`
globalThis.attnxrLegible = (text) => {
  if (COMMON.test(text)) return text
  let shown = ""
  let before = false // whether a code point stands before
  for (const char of text) {
    const there = has(char)
    shown += there ? char : `${before ? " " : ""}${pointOf(char)}`
    before = !there
  }
  return shown
}
}
