using VirtBackup.Proofs.ConstantMemory;
using VirtBackup.Testing.Proofs;

return await ProofProgram.RunAsync(new MemoryProof(), args);
