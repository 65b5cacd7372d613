// A figure's own picture files, painted by BokehJS in the browser: the server needs none for it.
const TYPES = { png: "PNG", svg: "SVG" }

const figureUnder = (view) => {
  if (view.model.type === "Figure") return view
  for (const child of view.child_views ?? []) {
    const found = figureUnder(child)
    if (found) return found
  }
  return null
}

export function render({ model, view }) {
  const box = document.createElement("div")
  box.className = "figure-files"
  const save = async ({ format, file }) => {
    const figure = figureUnder(view.parent)
    if (!figure) return
    const blob = await figure.export(format).to_blob()
    const link = document.createElement("a")
    link.href = URL.createObjectURL(blob)
    link.download = file
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
  }
  for (const [format, name] of Object.entries(TYPES)) {
    const button = document.createElement("button")
    button.type = "button"
    button.textContent = name
    button.title = `Save this figure as ${name}`
    button.ariaLabel = `Save “${model.title}” as ${name}`
    button.addEventListener("click", () => model.send_msg({ format }))
    box.append(button)
  }
  model.on("msg:custom", save)
  return box
}
