export function render({ model }) {
  const box = document.createElement("header")
  const line = document.createElement("div")
  const title = document.createElement("h2")
  const detail = document.createElement("span")
  const buttons = document.createElement("div")
  line.className = "line card-line"
  detail.className = "detail"
  detail.setAttribute("aria-live", "polite")
  buttons.className = "buttons"
  line.append(title, detail, buttons)
  box.append(line)

  const draw = () => {
    title.textContent = model.title
    detail.textContent = detail.title = model.detail
    line.dataset.mark = model.mark
  }
  const drawButtons = () => {
    const same = buttons.children.length === model.buttons.length
    model.buttons.forEach(([name, text], i) => {
      const button = same ? buttons.children[i] : document.createElement("button")
      button.type = "button"
      button.textContent = text
      button.dataset.name = name
      if (!same && i === 0) buttons.replaceChildren()
      if (!same) buttons.append(button)
    })
    if (model.buttons.length === 0) buttons.replaceChildren()
  }
  buttons.addEventListener("click", (event) => {
    const name = event.target.closest("button")?.dataset.name
    if (name) model.send_msg({ name })
  })
  for (const name of ["title", "detail", "mark"]) model.on(name, draw)
  model.on("buttons", drawButtons)
  draw()
  drawButtons()
  return box
}
