// SPDX-License-Identifier: GPL-2.0
/*
 * The lguest bus: a virtio transport.
 *
 * The page above the guest's memory describes the launcher's devices, one after
 * the other; kind 0 ends the list:
 *
 *   struct lguest_device_desc
 *   struct lguest_vqconfig for each virtqueue
 *   feature bits offered, feature_len bytes
 *   feature bits accepted, as many
 *   the device's own configuration, config_len bytes
 *
 * The rings lie in pages above that one. They are virtio's legacy ones. The
 * launcher is notified of the address of a ring that got buffers, and of the
 * address of the description when features have been accepted or the device is
 * to stop. When a device has changed its configuration, it raises the interrupt
 * of its first queue.
 */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/slab.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include <asm/lguest.h>
#include <asm/lguest_versions.h>
#include <asm/setup.h>

struct lguest_device_desc {
	u8 kind;
	u8 num_vq;
	u8 feature_len;
	u8 config_len;
	u8 status;
} __packed;

struct lguest_vqconfig {
	u16 num;
	u16 irq;
	u32 pfn;
} __packed;

/* Rings begin their used part on a page of its own. */
#define RING_ALIGN	PAGE_SIZE

struct lguest_device {
	struct virtio_device vdev;
	struct lguest_device_desc *desc;
	/* The guest-physical address of *desc. */
	phys_addr_t address;
	/* The configuration that the driver knows. */
	u8 seen[U8_MAX];
};

static struct device *lguest_root;

static struct lguest_device *to_lguest(struct virtio_device *vdev)
{
	return container_of(vdev, struct lguest_device, vdev);
}

static struct lguest_vqconfig *vqconfigs(struct lguest_device_desc *desc)
{
	return (struct lguest_vqconfig *)(desc + 1);
}

static u8 *offered_features(struct lguest_device_desc *desc)
{
	return (u8 *)(vqconfigs(desc) + desc->num_vq);
}

static u8 *accepted_features(struct lguest_device_desc *desc)
{
	return offered_features(desc) + desc->feature_len;
}

static u8 *configuration(struct lguest_device_desc *desc)
{
	return accepted_features(desc) + desc->feature_len;
}

static size_t desc_size(struct lguest_device_desc *desc)
{
	return configuration(desc) + desc->config_len - (u8 *)desc;
}

static void notify_status(struct lguest_device *device)
{
	lguest_hcall(LHCALL_NOTIFY, device->address, 0, 0, 0);
}

static void lguest_get(struct virtio_device *vdev, unsigned int offset,
		       void *buf, unsigned int len)
{
	struct lguest_device_desc *desc = to_lguest(vdev)->desc;

	BUG_ON(offset + len > desc->config_len);
	memcpy(buf, configuration(desc) + offset, len);
}

static void lguest_set(struct virtio_device *vdev, unsigned int offset,
		       const void *buf, unsigned int len)
{
	struct lguest_device_desc *desc = to_lguest(vdev)->desc;

	BUG_ON(offset + len > desc->config_len);
	memcpy(configuration(desc) + offset, buf, len);
}

static u8 lguest_get_status(struct virtio_device *vdev)
{
	return READ_ONCE(to_lguest(vdev)->desc->status);
}

static void lguest_set_status(struct virtio_device *vdev, u8 status)
{
	struct lguest_device *device = to_lguest(vdev);

	WRITE_ONCE(device->desc->status, status);
	if (status & VIRTIO_CONFIG_S_FAILED)
		notify_status(device);
	memcpy(device->seen, configuration(device->desc), device->desc->config_len);
	/* This driver learns even the first size from a change, if there is any. */
	if (status & VIRTIO_CONFIG_S_DRIVER_OK && vdev->id.device == VIRTIO_ID_CONSOLE &&
	    virtio_has_feature(vdev, VIRTIO_CONSOLE_F_SIZE))
		virtio_config_changed(vdev);
}

static void lguest_reset(struct virtio_device *vdev)
{
	struct lguest_device *device = to_lguest(vdev);

	WRITE_ONCE(device->desc->status, 0);
	notify_status(device);
}

static u64 lguest_get_features(struct virtio_device *vdev)
{
	struct lguest_device_desc *desc = to_lguest(vdev)->desc;
	u64 features = 0;

	memcpy(&features, offered_features(desc),
	       min_t(size_t, desc->feature_len, sizeof(features)));
	return features;
}

static int lguest_finalize_features(struct virtio_device *vdev)
{
	struct lguest_device *device = to_lguest(vdev);
	struct lguest_device_desc *desc = device->desc;

	vring_transport_features(vdev);
	memcpy(accepted_features(desc), &vdev->features,
	       min_t(size_t, desc->feature_len, sizeof(vdev->features)));
	notify_status(device);
	return 0;
}

static bool lguest_notify(struct virtqueue *vq)
{
	struct lguest_vqconfig *config = vq->priv;

	lguest_hcall(LHCALL_NOTIFY, config->pfn << PAGE_SHIFT, 0, 0, 0);
	return true;
}

static irqreturn_t first_queue_interrupt(int irq, void *vq)
{
	struct lguest_device *device = to_lguest(((struct virtqueue *)vq)->vdev);
	u8 *config = configuration(device->desc);
	irqreturn_t result = vring_interrupt(irq, vq);

	if (!memcmp(device->seen, config, device->desc->config_len))
		return result;
	memcpy(device->seen, config, device->desc->config_len);
	virtio_config_changed(&device->vdev);
	return IRQ_HANDLED;
}

static void del_vq(struct virtqueue *vq)
{
	struct lguest_vqconfig *config = vq->priv;
	void *pages = (void *)virtqueue_get_vring(vq)->desc;

	free_irq(config->irq, vq);
	vring_del_virtqueue(vq);
	memunmap(pages);
}

static void lguest_del_vqs(struct virtio_device *vdev)
{
	struct virtqueue *vq, *next;

	list_for_each_entry_safe(vq, next, &vdev->vqs, list)
		del_vq(vq);
}

static struct virtqueue *find_vq(struct virtio_device *vdev, unsigned int index,
				 vq_callback_t *callback, const char *name, bool ctx)
{
	struct lguest_device_desc *desc = to_lguest(vdev)->desc;
	struct lguest_vqconfig *config = vqconfigs(desc) + index;
	struct virtqueue *vq;
	void *pages;
	int err;

	if (index >= desc->num_vq)
		return ERR_PTR(-ENOENT);
	pages = memremap((phys_addr_t)config->pfn << PAGE_SHIFT,
			 PAGE_ALIGN(vring_size(config->num, RING_ALIGN)), MEMREMAP_WB);
	if (!pages)
		return ERR_PTR(-ENOMEM);
	/* Barriers among processors will do: the launcher is one. */
	vq = vring_new_virtqueue(index, config->num, RING_ALIGN, vdev, true, ctx,
				 pages, lguest_notify, callback, name);
	if (!vq) {
		err = -ENOMEM;
		goto unmap;
	}
	vq->priv = config;
	err = request_irq(config->irq, index ? vring_interrupt : first_queue_interrupt, 0,
			  dev_name(&vdev->dev), vq);
	if (err)
		goto delete;
	return vq;

delete:
	vring_del_virtqueue(vq);
unmap:
	memunmap(pages);
	return ERR_PTR(err);
}

static int lguest_find_vqs(struct virtio_device *vdev, unsigned int nvqs,
			   struct virtqueue *vqs[], LGUEST_VQS_INFO,
			   struct irq_affinity *desc)
{
	unsigned int i, index = 0;

	for (i = 0; i < nvqs; i++) {
		if (!lguest_vq_name(i)) {
			vqs[i] = NULL;
			continue;
		}
		vqs[i] = find_vq(vdev, index++, lguest_vq_callback(i),
				 lguest_vq_name(i), lguest_vq_ctx(i));
		if (IS_ERR(vqs[i])) {
			lguest_del_vqs(vdev);
			return PTR_ERR(vqs[i]);
		}
	}
	return 0;
}

static const char *lguest_bus_name(struct virtio_device *vdev)
{
	return "lguest";
}

static const struct virtio_config_ops lguest_config_ops = {
	.get			= lguest_get,
	.set			= lguest_set,
	.get_status		= lguest_get_status,
	.set_status		= lguest_set_status,
	.reset			= lguest_reset,
	.find_vqs		= lguest_find_vqs,
	.del_vqs		= lguest_del_vqs,
	.get_features		= lguest_get_features,
	.finalize_features	= lguest_finalize_features,
	.bus_name		= lguest_bus_name,
};

static void lguest_release(struct device *dev)
{
	kfree(to_lguest(dev_to_virtio(dev)));
}

static int __init add_device(struct lguest_device_desc *desc, phys_addr_t address)
{
	struct lguest_device *device = kzalloc(sizeof(*device), GFP_KERNEL);
	int err;

	if (!device)
		return -ENOMEM;
	device->desc = desc;
	device->address = address;
	device->vdev.dev.parent = lguest_root;
	device->vdev.dev.release = lguest_release;
	device->vdev.id.device = desc->kind;
	device->vdev.config = &lguest_config_ops;
	err = register_virtio_device(&device->vdev);
	if (err)
		put_device(&device->vdev.dev);
	return err;
}

static int __init lguest_bus_init(void)
{
	struct boot_e820_entry *memory = &boot_params.e820_table[0];
	phys_addr_t page = memory->addr + memory->size;
	u8 *descs = memremap(page, PAGE_SIZE, MEMREMAP_WB);
	size_t offset = 0;

	if (!descs)
		return -ENOMEM;
	lguest_root = root_device_register("lguest");
	if (IS_ERR(lguest_root))
		return PTR_ERR(lguest_root);
	while (offset + sizeof(struct lguest_device_desc) <= PAGE_SIZE) {
		struct lguest_device_desc *desc = (void *)(descs + offset);
		int err;

		if (!desc->kind)
			break;
		err = add_device(desc, page + offset);
		if (err)
			pr_err("lguest: device %u of kind %u cannot be added: %d\n",
			       (unsigned int)offset, desc->kind, err);
		offset += desc_size(desc);
	}
	return 0;
}
/* After virtio's core and before its drivers. */
postcore_initcall_sync(lguest_bus_init);
