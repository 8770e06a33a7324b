using VirtBackup.Proofs.ConstantMemory;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
return await ProofProgram.RunAsync(new MemoryProof(), args);
