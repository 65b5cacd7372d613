const legible = (text) => globalThis.attnxrLegible?.(text) ?? text
const FIRST_WAIT = 14

export function render({ model }) {
  const box = document.createElement("div")
  const key = document.createElement("div")
  const strip = document.createElement("div")
  key.className = "key"
  box.append(key, strip)
  let items = []
  strip.className = "chips"
  strip.setAttribute("role", "group")

  const chip = (item, index) => {
    const button = document.createElement("button")
    button.type = "button"
    button.className = "chip"
    button.classList.toggle("special", item.special)
    button.classList.toggle("generated", item.generated)
    button.classList.toggle("joined", item.joined)
    const shown = legible(item.label)
    button.textContent = shown
    if (shown !== item.label) button.dataset.token = item.label
    if (item.part) {
      const part = document.createElement("small")
      part.textContent = item.part
      part.classList.toggle("behind", item.label !== "")
      button.append(part)
      button.setAttribute("aria-label", item.name)
    }
    button.title = item.title
    button.dataset.index = index
    return button
  }
  const ghost = (width) => {
    const shape = document.createElement("span")
    shape.className = "chip ghost"
    shape.style.width = `${width}px`
    return shape
  }
  const paint = () => {
    const paints = JSON.parse(model.paint)
    for (const chip of strip.querySelectorAll("button")) {
      const [color, ink, note] = paints[chip.dataset.index] ?? [null, null, ""]
      const { title } = items[chip.dataset.index]
      chip.classList.toggle("painted", color !== null)
      chip.style.setProperty("--color", color)
      chip.style.setProperty("--on-color", ink)
      chip.title = note ? `${title} · ${note}` : title
    }
  }
  const drawKey = () => {
    const { label, steps = [] } = JSON.parse(model.key)
    const name = document.createElement("span")
    name.textContent = label ?? ""
    const swatches = steps.map(([color, ink, meaning]) => {
      const swatch = document.createElement("span")
      swatch.className = "swatch"
      swatch.style.background = color
      swatch.style.color = ink
      swatch.textContent = meaning
      return swatch
    })
    // In one piece, where the line breaks.
    const scale = document.createElement("span")
    scale.className = "scale"
    scale.append(...swatches)
    key.replaceChildren(name, scale)
  }
  const press = () => {
    for (const button of strip.querySelectorAll("[aria-pressed=true]")) button.ariaPressed = "false"
    const chosen = strip.children[model.chosen]
    if (chosen?.dataset.index === undefined) return
    chosen.ariaPressed = "true"
    // Who moves by keys from a chip moves on from the next one.
    if (strip.contains(strip.getRootNode().activeElement)) chosen.focus({ preventScroll: true })
    // Within the strip only: scrollIntoView would move the page.
    const above = chosen.offsetTop
    if (above < strip.scrollTop || above + chosen.offsetHeight > strip.scrollTop + strip.clientHeight) {
      strip.scrollTop = above - strip.clientHeight / 2
    }
  }
  const draw = () => {
    items = JSON.parse(model.items)
    strip.setAttribute("aria-label", model.caption)
    strip.classList.toggle("waiting", items.length === 0)
    if (items.length > 0) {
      strip.replaceChildren(...items.map(chip))
      for (const button of strip.children) button.ariaPressed = "false"
      paint()
      press()
    } else {
      // Blank shapes of the same sizes stand in, so that nothing below moves.
      const widths = Array.from(strip.children, (child) => child.offsetWidth)
      const shapes = widths.length > 0 ? widths : Array(FIRST_WAIT).fill(56)
      strip.replaceChildren(...shapes.map(ghost))
    }
  }
  strip.addEventListener("click", (event) => {
    const index = event.target.closest("button")?.dataset.index
    if (index !== undefined) model.send_msg({ index: Number(index) })
  })
  model.on("items", draw)
  model.on("paint", paint)
  model.on("key", drawKey)
  model.on("chosen", press)
  drawKey()
  draw()
  return box
}
