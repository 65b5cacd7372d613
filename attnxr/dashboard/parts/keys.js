const STEPS = {
  ArrowLeft: ["position", -1],
  ArrowRight: ["position", 1],
  ArrowDown: ["layer", -1],
  ArrowUp: ["layer", 1],
}
const SHIFTED = { ArrowLeft: ["head", -1], ArrowRight: ["head", 1] }
// Where arrows mean something already.
const OTHERS =
  "input, textarea, select, [contenteditable=''], [contenteditable=true], [role=tab], [role=slider], [role=listbox], " +
  "[role=menu], [role=menuitem], [role=dialog]"
// A key that is held down sends steps together, no faster than they can be shown.
const PAUSE_MS = 60

const scrolls = (element, key) =>
  element?.tabIndex === 0 &&
  element.matches(".scroll") &&
  (key === "ArrowLeft" || key === "ArrowRight"
    ? element.scrollWidth > element.clientWidth
    : element.scrollHeight > element.clientHeight)

export function render({ model }) {
  let steps = null
  let paused = false

  const send = () => {
    if (steps === null) {
      paused = false
      return
    }
    model.send_msg(steps)
    steps = null
    paused = true
    setTimeout(send, PAUSE_MS)
  }
  const listen = (event) => {
    const step = (event.shiftKey ? SHIFTED : STEPS)[event.key]
    if (!step || event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return
    const elements = event.composedPath().filter((node) => node instanceof Element)
    if (elements.some((element) => element.matches(OTHERS)) || scrolls(elements[0], event.key)) return
    event.preventDefault()
    const [name, by] = step
    steps = { ...steps, [name]: (steps?.[name] ?? 0) + by }
    if (!paused) send()
  }
  document.addEventListener("keydown", listen)
  model.on("remove", () => document.removeEventListener("keydown", listen))
  const hint = document.createElement("p")
  hint.className = "keys"
  const tell = () => {
    hint.textContent = model.hint
  }
  model.on("hint", tell)
  tell()
  return hint
}
