export function render({ model }) {
  const root = document.createElement("div")
  const caption = document.createElement("div")
  const form = document.createElement("form")
  const box = document.createElement("textarea")
  const side = document.createElement("div")
  const button = document.createElement("button")
  const hint = document.createElement("span")
  root.className = "text-place"
  form.className = "text-box"
  box.rows = 2
  box.spellcheck = false
  box.setAttribute("aria-label", model.label)
  box.dir = "auto"
  side.className = "side"
  button.type = "submit"
  button.className = "run"
  button.textContent = "Run"
  hint.className = "hint"
  hint.setAttribute("aria-live", "polite")
  side.append(button, hint)
  form.append(box, side)
  caption.className = "caption"
  root.append(caption, form)
  const name = () => {
    caption.textContent = model.caption
    caption.hidden = !model.caption
  }
  model.on("caption", name)
  name()

  // What is on screen belongs to the text that was sent, not to the one being typed: say so.
  const mark = () => {
    const edited = box.value !== model.text
    form.classList.toggle("edited", edited)
    hint.textContent = edited ? "not run yet" : "or press Enter"
  }
  // Texts that were sent and have not come back yet.
  let underway = []
  const send = () => {
    const tooLong = box.value.length > model.most
    box.setCustomValidity(
      tooLong
        ? `The text has ${box.value.length.toLocaleString("en")} characters; at most ${model.most.toLocaleString("en")} are taken.`
        : "",
    )
    if (!box.reportValidity()) return
    if (box.value !== (underway.at(-1) ?? model.text)) underway.push(box.value)
    model.send_msg({ text: box.value })
  }
  box.addEventListener("input", () => {
    box.setCustomValidity("")
    mark()
  })
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault()
      send()
    }
  })
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    send()
  })
  model.on("text", () => {
    if (model.text === underway[0]) {
      underway.shift() // What has been typed since stays.
    } else {
      underway = []
      box.value = model.text
    }
    mark()
  })
  box.value = model.text
  mark()
  return root
}
