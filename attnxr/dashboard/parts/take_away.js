// Files that the server makes: asked for by a button, sent in pieces, put together here and saved by the browser.
export function render({ model }) {
  const box = document.createElement("div")
  const said = document.createElement("p")
  box.className = "take-away"
  said.className = "said"
  said.setAttribute("role", "status")
  const buttons = new Map()
  let pieces = []

  const row = ({ name, label, format, note }) => {
    const item = document.createElement("div")
    const button = document.createElement("button")
    const text = document.createElement("span")
    const kind = document.createElement("span")
    const meaning = document.createElement("span")
    item.className = "file"
    button.type = "button"
    kind.className = "format"
    kind.textContent = format
    text.textContent = label
    meaning.className = "note"
    meaning.textContent = note
    meaning.id = `note-${name}`
    button.setAttribute("aria-describedby", meaning.id)
    button.append(text, " ", kind)
    button.addEventListener("click", () => model.send_msg({ name }))
    buttons.set(name, button)
    item.append(button, meaning)
    return item
  }
  const draw = () => {
    buttons.clear()
    box.replaceChildren(...model.files.map(row), said)
    follow()
  }
  const follow = () => {
    for (const button of buttons.values()) button.disabled = !model.ready || model.making !== ""
    said.textContent = model.said
  }
  const save = ({ file, type, data, left }) => {
    pieces.push(data)
    if (left > 0) return
    const link = document.createElement("a")
    link.href = URL.createObjectURL(new Blob(pieces, { type }))
    link.download = file
    pieces = []
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
  }
  model.on("msg:custom", save)
  model.on("files", draw)
  for (const name of ["ready", "making", "said"]) model.on(name, follow)
  draw()
  return box
}
