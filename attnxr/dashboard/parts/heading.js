const legible = (text) => globalThis.attnxrLegible?.(text) ?? text

export function render({ model }) {
  const box = document.createElement("header")
  const line = document.createElement("div")
  const title = document.createElement("h2")
  const detail = document.createElement("span")
  const help = document.createElement("p")
  line.className = "line"
  detail.className = "detail"
  if (model.live) detail.setAttribute("aria-live", "polite")
  line.append(title, detail)
  box.append(line, help)

  const draw = () => {
    title.textContent = model.title
    detail.textContent = legible(model.detail)
    help.textContent = model.help
    help.hidden = model.help === ""
  }
  for (const name of ["title", "detail", "help"]) model.on(name, draw)
  draw()
  return box
}
