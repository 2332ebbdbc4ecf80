/* From the PVH entry (32 bits, flat, no paging) to Rust in long mode, and the interrupt stubs. Intel syntax. */

.section .note.pvh,"a",@note
.align 4
.long 4, 4, 18                  /* name size, value size, XEN_ELFNOTE_PHYS32_ENTRY */
.asciz "Xen"
.long start32

.section .text.boot,"ax",@progbits
.code32
.globl start32
start32:                        /* ebx: hvm_start_info */
  cli
  cld
  mov edi, offset bss_start
  mov ecx, offset bss_end
  sub ecx, edi
  shr ecx, 2
  xor eax, eax
  rep stosd
  mov esp, offset boot_stack_top
  /* The first 4 GiB as they are, by pages of 2 MiB. */
  mov eax, offset pdpt + 3
  mov [pml4], eax
  xor ecx, ecx
  mov eax, offset pds + 3
2: mov [pdpt + ecx*8], eax
  add eax, 4096
  inc ecx
  cmp ecx, 4
  jb 2b
  xor ecx, ecx
3: mov eax, ecx
  shl eax, 21
  or eax, 0x83
  mov [pds + ecx*8], eax
  inc ecx
  cmp ecx, 2048
  jb 3b
  mov eax, offset pml4
  mov cr3, eax
  mov eax, cr4
  or eax, 0x620                 /* PAE, OSFXSR, OSXMMEXCPT */
  mov cr4, eax
  mov ecx, 0xC0000080
  rdmsr
  or eax, 0x100                 /* LME */
  wrmsr
  mov eax, cr0
  and eax, 0xfffffffb           /* EM off */
  or eax, 0x80000003            /* PG, MP, PE */
  mov cr0, eax
  lgdt [gdt_pointer]
  push 8
  mov eax, offset start64
  push eax
  retf
.code64
start64:
  mov ax, 16
  mov ds, ax
  mov es, ax
  mov ss, ax
  xor eax, eax
  mov fs, ax
  mov gs, ax
  lea rsp, [rip + boot_stack_top]
  lea rax, [rip + tss]
  mov word ptr [rip + gdt_tss + 2], ax
  shr rax, 16
  mov byte ptr [rip + gdt_tss + 4], al
  mov byte ptr [rip + gdt_tss + 7], ah
  /* Interrupts get stacks of their own: the prebuilt core uses the red zone. */
  lea rax, [rip + interrupt_stack_top]
  mov qword ptr [rip + tss + 0x24], rax
  lea rax, [rip + exception_stack_top]
  mov qword ptr [rip + tss + 0x2c], rax
  mov word ptr [rip + tss + 0x66], 104
  mov ax, 24
  ltr ax
  mov edi, ebx
  xor ebp, ebp
  call guest_main
4: cli
  hlt
  jmp 4b

.section .data.gdt,"aw",@progbits
.align 16
gdt:
  .quad 0
  .quad 0x00af9b000000ffff      /* 8: code, 64 bits */
  .quad 0x00cf93000000ffff      /* 16: data */
gdt_tss:
  .quad 0x0000890000000067      /* 24: task state */
  .quad 0
gdt_end:
gdt_pointer:
  .word gdt_end - gdt - 1
  .quad gdt

.section .bss.boot,"aw",@nobits
.align 4096
pml4: .skip 4096
pdpt: .skip 4096
pds:  .skip 16384
.skip 262144
boot_stack_top:
.skip 16384
interrupt_stack_top:
.skip 16384
exception_stack_top:
tss: .skip 112

.section .text.interrupt,"ax",@progbits
.macro STUB n
interrupt_\n:
  /* Those of these numbers bring an error code. */
  .if !((\n == 8) || (\n == 10) || (\n == 11) || (\n == 12) || (\n == 13) || (\n == 14) || (\n == 17) || (\n == 21))
  push 0
  .endif
  push \n
  jmp interrupt_common
.endm
.altmacro
.set i, 0
.rept 48
  STUB %i
  .set i, i+1
.endr
interrupt_common:
  push rax
  push rcx
  push rdx
  push rbx
  push rbp
  push rsi
  push rdi
  push r8
  push r9
  push r10
  push r11
  push r12
  push r13
  push r14
  push r15
  mov rdi, rsp
  mov rbx, rsp
  sub rsp, 512
  and rsp, -16
  fxsave [rsp]
  cld
  call guest_interrupt
  fxrstor [rsp]
  mov rsp, rbx
  pop r15
  pop r14
  pop r13
  pop r12
  pop r11
  pop r10
  pop r9
  pop r8
  pop rdi
  pop rsi
  pop rbp
  pop rbx
  pop rdx
  pop rcx
  pop rax
  add rsp, 16
  iretq

.section .rodata.interrupt,"a",@progbits
.align 8
.globl interrupt_table
interrupt_table:
.macro ENTRY n
  .quad interrupt_\n
.endm
.set i, 0
.rept 48
  ENTRY %i
  .set i, i+1
.endr
.noaltmacro

/* What the prebuilt core expects of a libc. Blocks go by plain registers, 64 bytes a turn: under TCG string
   instructions take one element at a time, and SSE registers live in memory. */
.section .text.memory,"ax",@progbits
.globl memcpy, memmove, memset, memcmp, bcmp, strlen
memmove:
  mov r8, rdi
  sub r8, rsi
  cmp r8, rdx
  jae memcpy
  mov rax, rdi
  mov rcx, rdx
  lea rdi, [rdi + rdx - 1]
  lea rsi, [rsi + rdx - 1]
  std
  rep movsb
  cld
  ret
memcpy:
  mov rax, rdi
5: cmp rdx, 64
  jb 6f
  mov rcx, [rsi]
  mov r8, [rsi + 8]
  mov r9, [rsi + 16]
  mov r10, [rsi + 24]
  mov [rdi], rcx
  mov [rdi + 8], r8
  mov [rdi + 16], r9
  mov [rdi + 24], r10
  mov rcx, [rsi + 32]
  mov r8, [rsi + 40]
  mov r9, [rsi + 48]
  mov r10, [rsi + 56]
  mov [rdi + 32], rcx
  mov [rdi + 40], r8
  mov [rdi + 48], r9
  mov [rdi + 56], r10
  add rsi, 64
  add rdi, 64
  sub rdx, 64
  jmp 5b
6: mov rcx, rdx
  shr rcx, 3
  rep movsq
  mov ecx, edx
  and ecx, 7
  rep movsb
  ret
memset:
  mov r8, rdi
  movzx eax, sil
  mov rcx, 0x0101010101010101
  imul rax, rcx
  mov rcx, rdx
  shr rcx, 3
  rep stosq
  mov ecx, edx
  and ecx, 7
  rep stosb
  mov rax, r8
  ret
bcmp:
memcmp:
  xor eax, eax
  mov rcx, rdx
  test rcx, rcx
  jz 7f
  repe cmpsb
  je 7f
  movzx eax, byte ptr [rdi - 1]
  movzx ecx, byte ptr [rsi - 1]
  sub eax, ecx
7: ret
strlen:
  xor eax, eax
8: cmp byte ptr [rdi + rax], 0
  je 9f
  inc rax
  jmp 8b
9: ret
