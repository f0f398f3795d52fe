// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Address spaces. All but the lookups run in process context, under the session's lock. */

#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "ptap_check.h"
#include "ptap_checksum.h"
#include "ptap_record.h"
#include "ptap_session.h"
#include "ptap_space.h"

/* Sorted by the mm's address. */
struct space_set {
	u32 count;
	struct ptap_space *spaces[];
};

struct user_table {
	u64 id;
	u32 size;
	u32 needed; /* registers that walks need of it */
	u8 *content;
};

#define MOST_RETIRED 64

static struct space_set *published; /* or null */
static struct user_table *tables; /* by id */
static u32 table_count;
/* What probes may still read. */
static struct {
	void *memory;
	struct mm_struct *mm;
} retired[MOST_RETIRED];
static u32 retired_count;

/* The number of spaces whose mm lies before `mm`. */
static u32 place_of(const struct space_set *set, const struct mm_struct *mm)
{
	u32 low = 0, high = set->count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (set->spaces[middle]->mm < mm)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
NOKPROBE_SYMBOL(place_of);

const struct ptap_space *ptap_space_of(const struct mm_struct *mm)
{
	const struct space_set *set = smp_load_acquire(&published);
	u32 place;

	if (!set)
		return NULL;
	place = place_of(set, mm);
	return place < set->count && set->spaces[place]->mm == mm ? set->spaces[place] : NULL;
}
NOKPROBE_SYMBOL(ptap_space_of);

int ptap_space_is_current(const struct ptap_space *space)
{
	return READ_ONCE(space->mm->exec_vm) == space->executable_pages;
}
NOKPROBE_SYMBOL(ptap_space_is_current);

static void free_retired(void)
{
	u32 index;

	synchronize_rcu();
	for (index = 0; index < retired_count; index++) {
		kvfree(retired[index].memory);
		if (retired[index].mm)
			mmdrop(retired[index].mm);
	}
	retired_count = 0;
}

static void retire(void *memory, struct mm_struct *mm)
{
	if (retired_count == MOST_RETIRED)
		free_retired();
	retired[retired_count].memory = memory;
	retired[retired_count++].mm = mm;
}

/* The place of the first table whose id is not less. */
static struct user_table *table_place(u64 id)
{
	u32 low = 0, high = table_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (tables[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return tables + low;
}

static const struct user_table *find_table(u64 id)
{
	const struct user_table *table = table_place(id);

	return table < tables + table_count && table->id == id ? table : NULL;
}

int ptap_space_add_table(const void *message, size_t size)
{
	const struct ptap_user_table_message *told = message;
	struct user_table table, *place;
	enum ptap_table_fault fault;

	if (size <= sizeof(*told) || size > S32_MAX || !told->id)
		return ptap_refuse(-EINVAL, "a user table of %zu bytes", size);
	if (!tables)
		tables = kvcalloc(PTAP_MAXIMUM_USER_TABLES, sizeof(*tables), GFP_KERNEL);
	if (!tables)
		return ptap_refuse(-ENOMEM, "no memory for user tables");
	place = table_place(told->id);
	if (find_table(told->id))
		return ptap_refuse(-EEXIST, "a second user table of the id %llu", told->id);
	if (table_count == PTAP_MAXIMUM_USER_TABLES)
		return ptap_refuse(-E2BIG, "more than %d user tables", PTAP_MAXIMUM_USER_TABLES);
	table.id = told->id;
	table.size = size - sizeof(*told);
	/* A copy of its own, at the alignment that lookups need. */
	table.content = kvmalloc(table.size, GFP_KERNEL);
	if (!table.content)
		return ptap_refuse(-ENOMEM, "no memory for a user table of %u bytes", table.size);
	memcpy(table.content, told + 1, table.size);
	fault = ptap_check_table(table.content, table.size);
	if (fault != PTAP_TABLE_SOUND) {
		kvfree(table.content);
		return ptap_refuse(-EBADMSG, "a damaged user table: fault %d", fault);
	}
	if (!ptap_checksum_holds(table.content, table.size)) {
		kvfree(table.content);
		return ptap_refuse(-EBADMSG, "a damaged user table: its checksum is another");
	}
	table.needed = ptap_registers_needed(table.content);
	memmove(place + 1, place, (u8 *)(tables + table_count) - (u8 *)place);
	*place = table;
	table_count++;
	return 0;
}

static u64 inode_number(const struct vm_area_struct *area)
{
	if (!area->vm_file)
		return 0;
#ifdef PTAP_HAS_FILE_USER_INODE
	return file_user_inode(area->vm_file)->i_ino;
#else
	return file_inode(area->vm_file)->i_ino;
#endif
}

/* Whether `mm`, which is locked, has just this mapping; adds its pages to those that mm->exec_vm counts. */
static int is_mapped(struct mm_struct *mm, const struct ptap_space_mapping *told, unsigned long *pages)
{
	const struct vm_area_struct *area = find_vma(mm, told->start);

	if (!area || area->vm_start != told->start || area->vm_end != told->end || !(area->vm_flags & VM_EXEC) ||
	    inode_number(area) != told->inode ||
	    (area->vm_file && (u64)area->vm_pgoff << PAGE_SHIFT != told->file_offset))
		return 0;
	if ((area->vm_flags & (VM_EXEC | VM_WRITE | VM_STACK)) == VM_EXEC)
		*pages += (told->end - told->start) >> PAGE_SHIFT;
	return 1;
}

/* Fill `space` by what is told, where all of it is true and nothing is missing. */
static int fill_space(struct ptap_space *space, const struct ptap_space_message *told)
{
	const struct ptap_space_mapping *mapping = (const void *)(told + 1);
	unsigned long pages = 0;
	u64 before = 0;
	u32 index;

	space->needed = 0;
	if (space->mm->start_stack != told->start_stack)
		return ptap_refuse(-ESTALE, "process %u runs another program by now", told->pid);
	for (index = 0; index < told->mapping_count; index++, mapping++) {
		const struct user_table *table = mapping->table ? find_table(mapping->table) : NULL;

		if (mapping->start < before || mapping->start >= mapping->end)
			return ptap_refuse(-EINVAL, "mappings that are not sorted");
		if (mapping->table && !table)
			return ptap_refuse(-ENOENT, "no user table of the id %llu", mapping->table);
		if (!is_mapped(space->mm, mapping, &pages))
			return ptap_refuse(-ESTALE, "process %u has no mapping at %#llx as told", told->pid,
					   mapping->start);
		before = mapping->end;
		space->needed |= table ? table->needed : 0;
		space->mappings[index] = (struct ptap_mapping){
			.start = mapping->start,
			.end = mapping->end,
			.bias = mapping->bias,
			.table = table ? table->content : NULL,
			.table_size = table ? table->size : 0,
			.kind = table ? PTAP_MAPPING_MODULE : PTAP_MAPPING_NO_TABLE,
		};
	}
	if (pages != space->mm->exec_vm)
		return ptap_refuse(-ESTALE, "process %u has more mappings than were told", told->pid);
	space->generation = told->generation;
	space->number = ptap_next_generation();
	space->mapping_count = told->mapping_count;
	space->executable_pages = pages;
	return 0;
}

/* Publish a set without the spaces of `mm` and of processes that are gone, and with `added` (which may be null). */
static int replace(const struct mm_struct *mm, struct ptap_space *added)
{
	struct space_set *old = published, *set;
	u32 index, count = old ? old->count : 0;

	set = kvmalloc(struct_size(set, spaces, count + 1), GFP_KERNEL);
	if (!set)
		return ptap_refuse(-ENOMEM, "no memory for %u address spaces", count + 1);
	set->count = 0;
	for (index = 0; index < count; index++) {
		struct ptap_space *space = old->spaces[index];

		if (space->mm != mm && atomic_read(&space->mm->mm_users))
			set->spaces[set->count++] = space;
	}
	if (added && set->count >= PTAP_MAXIMUM_SPACES) {
		kvfree(set);
		return ptap_refuse(-E2BIG, "more than %d processes", PTAP_MAXIMUM_SPACES);
	}
	if (added) {
		index = place_of(set, added->mm);
		memmove(set->spaces + index + 1, set->spaces + index, (set->count - index) * sizeof(set->spaces[0]));
		set->spaces[index] = added;
		set->count++;
	}
	smp_store_release(&published, set);
	for (index = 0; index < count; index++) {
		struct ptap_space *space = old->spaces[index];
		u32 place = place_of(set, space->mm);

		if (place == set->count || set->spaces[place] != space)
			retire(space, space->mm);
	}
	if (old)
		retire(old, NULL);
	return 0;
}

static struct mm_struct *mm_of(pid_t number)
{
	struct pid *pid = find_get_pid(number);
	struct task_struct *task = get_pid_task(pid, PIDTYPE_PID);
	struct mm_struct *mm = task ? get_task_mm(task) : NULL;

	put_pid(pid);
	if (task)
		put_task_struct(task);
	return mm;
}

static int tell_of(struct mm_struct *mm, const struct ptap_space_message *told)
{
	struct ptap_space *space = kvmalloc(struct_size(space, mappings, told->mapping_count), GFP_KERNEL);
	int error;

	if (!space)
		return ptap_refuse(-ENOMEM, "no memory for %u mappings", told->mapping_count);
	space->mm = mm;
	mmap_read_lock(mm);
	error = fill_space(space, told);
	mmap_read_unlock(mm);
	if (!error)
		error = replace(mm, space);
	if (error)
		kvfree(space);
	else
		mmgrab(mm);
	return error;
}

int ptap_space_tell(const void *message, size_t size)
{
	const struct ptap_space_message *told = message;
	struct mm_struct *mm;
	int error;

	if (size < sizeof(*told) || told->mapping_count > PTAP_MAXIMUM_SPACE_MAPPINGS || !told->generation ||
	    size != sizeof(*told) + told->mapping_count * sizeof(struct ptap_space_mapping))
		return ptap_refuse(-EINVAL, "the mappings of a process in %zu bytes", size);
	mm = mm_of(told->pid);
	if (!mm && told->mapping_count)
		return ptap_refuse(-ESRCH, "there is no process %u", told->pid);
	error = told->mapping_count ? tell_of(mm, told) : replace(mm, NULL);
	if (mm)
		mmput(mm);
	return error;
}

void ptap_space_free_all(void)
{
	u32 index;

	for (index = 0; published && index < published->count; index++)
		retire(published->spaces[index], published->spaces[index]->mm);
	free_retired();
	kvfree(published);
	published = NULL;
	for (index = 0; index < table_count; index++)
		kvfree(tables[index].content);
	kvfree(tables);
	tables = NULL;
	table_count = 0;
}
