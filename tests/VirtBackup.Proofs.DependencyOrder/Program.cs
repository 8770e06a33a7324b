using VirtBackup.Proofs.DependencyOrder;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
return await ProofProgram.RunAsync(new DependencyOrderProof(), args);
