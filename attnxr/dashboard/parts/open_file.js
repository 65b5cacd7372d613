// A file of the visitor's, sent in pieces: the next one goes when the server has the last, and no more than it takes.
const PIECE = 2 << 20

export function render({ model }) {
  const box = document.createElement("div")
  const button = document.createElement("button")
  const input = document.createElement("input")
  const said = document.createElement("span")
  box.className = "open-file"
  button.type = "button"
  button.textContent = "Open a saved file …"
  button.title = model.help
  button.setAttribute("aria-description", model.help)
  input.type = "file"
  input.accept = ".nc,.h5,.zip"
  input.hidden = true
  input.setAttribute("aria-label", "Saved file")
  said.className = "said"
  said.setAttribute("role", "status")
  box.append(button, input, said)
  let file = null

  const send = async (start) => {
    const bytes = new Uint8Array(await file.slice(start, start + PIECE).arrayBuffer())
    let binary = ""
    for (let i = 0; i < bytes.length; i += 32768) binary += String.fromCharCode(...bytes.subarray(i, i + 32768))
    model.send_msg({ name: file.name, size: file.size, start, data: btoa(binary) })
  }
  const follow = () => {
    said.textContent = said.title = model.said
    said.classList.toggle("refused", model.refused)
    button.disabled = model.busy
  }
  button.addEventListener("click", () => input.click())
  input.addEventListener("change", () => {
    file = input.files[0] ?? null
    input.value = "" // so that the same file can be chosen again
    if (file) send(0)
  })
  model.on("msg:custom", ({ next }) => {
    if (file) send(next)
  })
  for (const name of ["said", "refused", "busy"]) model.on(name, follow)
  follow()
  return box
}
